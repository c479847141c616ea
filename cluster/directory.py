"""KVDirectory: which nodes share the store. One actor, which Ray restarts when it is killed.

It starts a shard on every Ray node that `store.node_labels` names. These, and the shards that
engines have started on other nodes, it tells each new membership (`membership_keeper.py`), and says
when they are done with what it moved. Serving needs it only for news.
"""

import logging
import os
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import ray
from ray.exceptions import RayError

from actors.peers import Peers
from actors.shard_names import DIRECTORY, NAMESPACE, shard_name
from actors.shard_start import start_shard
from cluster.membership_keeper import MembershipKeeper
from kvstore.config import StoreConfig
from kvstore.membership import Membership
from kvstore.supervised import Supervisor

logger = logging.getLogger(__name__)

INTERVAL_S = 0.5


class KVDirectoryShell:
    def __init__(self, config: StoreConfig, namespace: str = NAMESPACE) -> None:
        self._config, self._namespace = config, namespace
        self._keeper = MembershipKeeper(config.replication, Peers(namespace), self._start)
        self._with_engines = set[str]()
        self._threads = Supervisor()
        steps = self._reconcile, self._restart_unhealthy
        self._thread = self._threads.every(INTERVAL_S, "kvdirectory", *steps)

    def membership(self, known_epoch: int = 0, node_id: str = "") -> Membership:
        """An engine says its node too, whose shard it has started: removals must reach it."""
        if node_id:
            self._with_engines.add(node_id)
        return self._keeper.membership(known_epoch)

    def sharers(self) -> frozenset[str] | None:
        return self._keeper.sharers()

    def settings(self) -> StoreConfig:
        """What shards are started with; they keep it."""
        return self._config

    def drain(self, node: str) -> None:
        self._keeper.drain(node)

    def status(self) -> dict[str, Any]:
        threads = {name: asdict(stats) for name, stats in self._threads.stats().items()}
        return {**self._keeper.status(), "threads": threads}

    def close(self, timeout_s: float) -> None:
        """Tell nobody anything any more, and start nothing."""
        self._thread.stop()
        self._thread.join(timeout_s)

    def process_id(self) -> int:
        return os.getpid()

    def _reconcile(self) -> None:
        try:
            self._keeper.step(self._alive())
        except RayError as error:  # Ray's head restarts: what is known stands
            logger.warning("the cluster's nodes cannot be listed: %s", error)

    def _start(self, node_id: str) -> None:
        start_shard(self._config, node_id, self._namespace)

    def _restart_unhealthy(self) -> None:
        """A shard that lost a thread does half of its work and answers: Ray starts it anew."""
        for node_id, report in list(self._keeper.reports.items()):
            if report.threads_gone:
                logger.error("the shard of %s lost %s: it restarts", node_id, report.threads_gone)
                del self._keeper.reports[node_id]
                with suppress(ValueError):  # it is gone already
                    handle = ray.get_actor(shard_name(node_id), namespace=self._namespace)
                    ray.kill(handle, no_restart=False)

    def _alive(self) -> set[str]:
        """Ids of the nodes that keep a shard."""
        wanted = self._config.node_labels.items()
        labels = {str(n["NodeID"]): n["Labels"].items() for n in ray.nodes() if n["Alive"]}
        self._with_engines &= labels.keys()
        return {n for n in labels if wanted <= labels[n] or n in self._with_engines}


KVDirectory = ray.remote(max_restarts=-1, num_cpus=0)(KVDirectoryShell)


def ensure_directory(config: StoreConfig, namespace: str = NAMESPACE) -> Any:
    """Handle of the cluster's directory, which starts if there is none."""
    return KVDirectory.options(
        name=DIRECTORY, namespace=namespace, get_if_exists=True, lifetime="detached"
    ).remote(config, namespace)
