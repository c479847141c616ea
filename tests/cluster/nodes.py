"""Several Ray nodes on this machine, each with a shard and engines' processes of its own."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.cluster_store import ClusterStoreClient
from actors.shard_names import NAMESPACE, shard_name
from cluster.directory import ensure_directory
from kvstore.config import StoreConfig
from kvstore.membership import Membership
from kvstore.types import Path
from tests.kvstore.segments import assert_right_bytes, fill

OBJECT_STORE_BYTES = 100 * 2**20
LABEL = "letter"
"""Of every node; its value is the node's name."""
SOON = {"health_check_period_ms": 1000}
"""Of Ray: a node that is gone is noticed after 5 s, not 15. One that is slow has as long as ever,
which is another setting."""


class Engine:
    """An engine's process on one node: computes what nobody has."""

    def __init__(self, config: StoreConfig) -> None:
        self._client = ClusterStoreClient(config)
        self._client.await_membership(10.0)

    def use(self, *paths: Path, timeout_s: float = 30.0) -> dict[bytes, str]:
        """Where each segment came from, by digest; 'computed' for what it computed itself."""
        give_up, sources = time.monotonic() + timeout_s, dict[bytes, str]()
        while True:
            acquired = self._client.acquire(paths, 5.0)
            sources |= {k.digest: sources.get(k.digest, h.tier) for k, h in acquired.hits.items()}
            sources |= {key.digest: "computed" for key in acquired.tickets}
            assert_right_bytes(self._client, acquired)
            kept = [t for t in acquired.tickets.values() if t.extent is not None]
            fill(self._client, acquired, kept)
            self._client.commit(acquired, kept)
            self._client.release(acquired.lease_id)
            if not acquired.waiters:
                return sources
            self._client.wait(acquired.waiters, give_up - time.monotonic())

    def call(self, method: str, *args: Any) -> Any:
        """Any method of the store client whose answer can travel."""
        return getattr(self._client, method)(*args)

    def claim(self, *paths: Path) -> int:
        """How many segments it was told to compute; it does nothing about them."""
        return len(self._client.acquire(paths, 5.0).tickets)

    def leave_at_once(self, *paths: Path) -> None:
        """Computes, and needs nothing more, as a request does when it ends."""
        acquired = self._client.acquire(paths, 5.0)
        kept = [t for t in acquired.tickets.values() if t.extent is not None]
        fill(self._client, acquired, kept)
        self._client.commit(acquired, kept)
        self._client.trim({acquired.lease_id: ()})

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Nodes:
    """The cluster; its first node is the head, which is a member like the others."""

    def __init__(self, config: StoreConfig, ray_config: Mapping[str, Any] | None = None) -> None:
        self.config = config
        self._cluster = Cluster()
        self._nodes: dict[str, Any] = {}
        self.ids: dict[str, str] = {}
        self.add("a", _system_config=dict(ray_config or {}))
        ray.init(address=self._cluster.address, namespace=NAMESPACE, log_to_driver=False)
        self.ids["a"] = ray.get_runtime_context().get_node_id()
        self.directory = ensure_directory(config)

    def add(self, name: str, **head_only: Any) -> str:
        """A node's id; it has a number of CPUs of its own, which it does not have."""
        node = self._cluster.add_node(
            num_cpus=4,
            object_store_memory=OBJECT_STORE_BYTES,
            node_name=name,
            labels={LABEL: name},
            **head_only,
        )
        self._nodes[name], self.ids[name] = node, str(node.node_id)
        return self.ids[name]

    def kill(self, name: str) -> None:
        """The node and all its processes, at once."""
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)

    def engine(self, name: str, kind: type[Engine] = Engine) -> Any:
        """A new one on that node."""
        here = NodeAffinitySchedulingStrategy(self.ids[name], soft=False)
        actor = ray.remote(kind).options(num_cpus=0.1, scheduling_strategy=here)
        return actor.remote(self.config)

    def shard(self, name: str) -> Any:
        return ray.get_actor(shard_name(self.ids[name]), namespace=NAMESPACE)

    def membership(self) -> Membership:
        found: Membership = ray.get(self.directory.membership.remote(), timeout=20)
        return found

    def settled(self, num_members: int, timeout_s: float = 60.0) -> Membership:
        """Once there are so many members, and nothing is left to move."""

        def done() -> bool:
            membership = self.membership()
            return len(membership.members) == num_members and not membership.before

        eventually(done, timeout_s)
        return self.membership()

    def owned_by(self, name: str, paths: list[Path]) -> list[Path]:
        """Those of the paths whose first owner is this node."""
        membership = self.membership()
        return [p for p in paths if membership.owners(p[-1].key.placement)[0] == self.ids[name]]

    def close(self) -> None:
        ray.shutdown()
        self._cluster.shutdown()


@contextmanager
def nodes(
    config: StoreConfig, *names: str, ray_config: Mapping[str, Any] | None = None
) -> Iterator[Nodes]:
    """A head called a, and these; all of them members."""
    cluster = Nodes(config, ray_config)
    try:
        for name in names:
            cluster.add(name)
        cluster.settled(1 + len(names))
        yield cluster
    finally:
        cluster.close()


def eventually(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up, f"not in {timeout_s} s"
        time.sleep(0.1)
