"""Shards of this process, which a keeper of their membership and each other call directly."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any
from unittest.mock import patch

from actors.peers import Peers
from actors.shard import KVShardShell
from cluster.membership_keeper import MembershipKeeper
from tests.cluster.nodes import eventually
from tests.kvstore.segments import small_config


class Wire(Peers):
    """Of `Peers` everything but Ray."""

    def __init__(self) -> None:
        super().__init__()
        self.shells: dict[str, KVShardShell] = {}
        self.cut = set[str]()
        """Nodes that nobody reaches."""
        self.losing = set[str]()
        """Methods that get no answer."""

    def start(self, node_ids: Mapping[str, tuple[Any, ...]], method: str) -> Any:
        return {
            node_id: getattr(self.shells[node_id], method)(*arguments)
            for node_id, arguments in node_ids.items()
            if node_id in self.shells and node_id not in self.cut and method not in self.losing
        }

    def call(self, node_id: str, method: str, *args: Any) -> Any:
        return self.start({node_id: args}, method).get(node_id)

    def take(self, calls: Any, timeout_s: float) -> dict[str, Any]:
        found = dict(calls)
        calls.clear()
        return found


class Shells:
    """Each on a disk of its own, which outlasts it."""

    def __init__(self, folder: FilePath) -> None:
        self.folder = folder
        self.wire = Wire()
        self.keeper = self.new_keeper()

    def new_keeper(self) -> MembershipKeeper:
        """A directory that begins, in the place of the one that was."""
        self.keeper = MembershipKeeper(1, self.wire, lambda node_id: None)
        return self.keeper

    def start(self, *names: str) -> None:
        for name in names:
            folder = self.folder / name
            folder.mkdir(exist_ok=True)
            config = replace(small_config(folder), ssd_dir=str(folder / "ssd"))
            with patch("actors.shard.freeze_survivors"), patch("actors.shard.Peers", self._peers):
                self.wire.shells[name] = KVShardShell(config, name)

    def stop(self, *names: str) -> None:
        for name in names:
            self.wire.shells.pop(name).close(10.0)

    def step(self, *alive: str) -> None:
        """What the directory does every half a second, of all nodes unless some are named."""
        self.keeper.step(set(alive or self.wire.shells))

    def settle(self) -> None:
        """Until all are members: each reads what an earlier life of its left, first."""
        eventually(self._is_settled, 60.0)

    def _is_settled(self) -> bool:
        self.step()
        return self.keeper.membership().node_ids == self.wire.shells.keys()

    def _peers(self, namespace: str) -> Peers:
        return self.wire


@contextmanager
def shells(folder: FilePath, *names: str) -> Iterator[Shells]:
    made = Shells(folder)
    with ExitStack() as stack, patch("cluster.membership_keeper.node_name", str):
        stack.callback(lambda: made.stop(*made.wire.shells))
        made.start(*names)
        yield made
