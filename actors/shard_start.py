"""Starting, finding and stopping the shard of a node."""

import time
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.shard import KVShard
from actors.shard_groups import NUM_THREADS
from actors.shard_names import NAMESPACE, node_name, shard_name
from kvstore.config import StoreConfig
from kvstore.errors import StoreConfigError

_START_TIMEOUT_S = 120.0
_RESTART_POLL_S = 0.1


def ensure_shard(config: StoreConfig, namespace: str = NAMESPACE) -> Any:
    """Handle of the calling node's shard, which is started with `config` if there is none, and
    answers.

    Raises StoreConfigError when it cannot start on this machine.
    """
    node_id = ray.get_runtime_context().get_node_id()
    give_up = time.monotonic() + _START_TIMEOUT_S
    while True:
        handle = start_shard(config, node_id, namespace)
        try:
            ray.get(handle.report.remote(), timeout=_START_TIMEOUT_S)
            return handle
        except ActorDiedError as error:
            if error.actor_init_failed or time.monotonic() > give_up:
                text = f"the store of node {node_id} did not start: {error}"
                raise StoreConfigError(text) from error
        except ActorUnavailableError:  # it was killed, and restarts
            if time.monotonic() > give_up:
                raise
        time.sleep(_RESTART_POLL_S)


def start_shard(config: StoreConfig, node_id: str, namespace: str = NAMESPACE) -> Any:
    """Handle of a node's shard, which starts, if it does not run."""
    here = replace(config, ssd_dir=config.ssd_dir.replace("{node}", node_name(node_id)))
    return KVShard.options(
        name=shard_name(node_id),
        namespace=namespace,
        get_if_exists=True,
        lifetime="detached",
        max_restarts=-1,
        max_concurrency=NUM_THREADS,
        num_cpus=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
    ).remote(here, node_id, namespace)


def stop_shard(handle: Any, timeout_s: float = 30.0) -> None:
    """Write what is queued, give the arena's memory back, end the actor."""
    try:
        ray.get(handle.close.remote(timeout_s), timeout=timeout_s + 5.0)
    finally:
        ray.kill(handle, no_restart=True)
