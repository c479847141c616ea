"""What nodes take from each other: objects of a bucket that they share, segments that move."""

import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from actors.guests import Guests
from actors.moving import Mover
from actors.peers import Peers
from kvstore.codec import file_nbytes
from kvstore.local import LocalStoreClient
from kvstore.membership import Member, Membership
from kvstore.ownership import Ownership
from kvstore.store import KVStore
from kvstore.types import Path as Chain
from kvstore.types import SegmentKey
from tests.bench.harness import Options
from tests.kvstore.segments import TRUNK, chain_of, compute, passage, small_config, store_path
from tests.kvstore.waiting import eventually

NUM_OBJECTS = 41
_PATIENCE_S = 120.0
_AWAY_S = 5.0
"""For longer than a node tries three times."""


def measure(options: Options) -> tuple[dict[str, float], list[dict[str, object]]]:
    rows: list[dict[str, object]] = []
    taken = lost = 0
    for share in (0.4, 1.0):
        with TemporaryDirectory() as folder:
            count = _taken_by_sharer(Path(folder), share)
        rows.append({"what": f"objects taken by a sharer with {share} of the room", "lost": count})
        taken += count
    for name in ("an owner that is away", "answers that are lost", "an owner without room"):
        with TemporaryDirectory() as folder:
            count = _lost_in_a_move(Path(folder), name)
        rows.append({"what": f"segments moved to {name}", "lost": count})
        lost += count
    return {"sharer_losses": taken, "rebalance_losses": lost}, rows


class Node:
    """A store with an SSD, its guests' side, and a client."""

    def __init__(self, folder: Path, **changes: float | str) -> None:
        folder.mkdir()
        self.config = small_config(folder, ssd_bytes=2**23, **changes)
        self.start()

    def start(self) -> None:
        self.store = KVStore(self.config, "node")
        self.client = LocalStoreClient(self.store, self.config.dram_dir)
        self.guests = Guests(self.store, self.config)
        assert self.store.flush(_PATIENCE_S)

    def close(self) -> None:
        self.guests.close(10.0)
        self.client.close()
        self.store.close()


def _taken_by_sharer(folder: Path, share: float) -> int:
    """One node fills its part of the bucket, another with `share` of its room comes and writes; how
    many of the first one's objects a third finds no more."""
    paths = [chain_of(passage(n)) for n in range(2 * NUM_OBJECTS)]
    nbytes = NUM_OBJECTS * file_nbytes(paths[0][0])
    remote: dict[str, float | str] = {
        "remote": f"file://{folder}/bucket",
        "remote_timeout_s": _PATIENCE_S,
    }
    first = Node(folder / "first", **remote, remote_bytes=2 * nbytes)
    store_path(first.client, *paths[:NUM_OBJECTS])
    assert first.store.flush(_PATIENCE_S)
    second = Node(folder / "second", **remote, remote_bytes=int(share * nbytes) + 1)
    store_path(second.client, *paths[NUM_OBJECTS:])
    assert second.store.flush(_PATIENCE_S)
    third = Node(folder / "third", **remote, remote_bytes=8 * nbytes)
    found = _num_found(third.client, paths[:NUM_OBJECTS])
    for node in (first, second, third):
        node.close()
    return NUM_OBJECTS - found


class Wire(Peers):
    """Between nodes of this process; it can be cut, or lose answers."""

    def __init__(self, nodes: Mapping[str, Node]) -> None:
        super().__init__()
        self._nodes = nodes
        self.is_cut = self.loses = False

    def start(self, node_ids: Mapping[str, tuple[Any, ...]], method: str) -> Any:
        return {} if self.is_cut else {n: self._call(n, method, a) for n, a in node_ids.items()}

    def gather(self, calls: Any, timeout_s: float) -> dict[str, Any]:
        return {node_id: answer for node_id, answer in calls.items() if answer is not None}

    def _call(self, node_id: str, method: str, arguments: tuple[Any, ...]) -> Any:
        node = self._nodes[node_id]
        answer = getattr(node.guests if hasattr(node.guests, method) else node.store, method)
        found, loses = answer(*arguments), self.loses and method not in ("kept", "locate")
        self.loses = self.loses and not loses
        return None if loses else found


def _lost_in_a_move(folder: Path, name: str) -> int:
    """Half of one node's segments become another's; how many neither disk has in the end."""
    nodes = {n: Node(folder / n) for n in ("a", "b")}
    paths = [chain_of(TRUNK, passage(n))[1:] for n in range(NUM_OBJECTS)]
    store_path(nodes["a"].client, *paths)
    assert nodes["a"].store.flush(_PATIENCE_S)
    wire = Wire(nodes)
    wire.is_cut, wire.loses = "away" in name, "answers" in name
    pinned = compute(nodes["b"].client, *_fillers()) if "room" in name else None
    mover = Mover("a", nodes["a"].store, nodes["a"].guests, wire, 1e9)
    now = Membership(1, tuple(Member(n, n, 100) for n in nodes))
    for node_id, node in nodes.items():
        node.store.own(Ownership(now, node_id))
    mover.follow(now)
    time.sleep(_AWAY_S)
    wire.is_cut = False
    if pinned is not None:
        nodes["b"].client.release(pinned.lease_id)
    eventually(lambda: mover.done_epoch == 1, _PATIENCE_S)
    mover.close(_PATIENCE_S)
    there = set[SegmentKey]()
    for node in nodes.values():
        assert node.store.flush(_PATIENCE_S)
        node.close()
        node.start()
        there |= node.store.locate([path[0].key for path in paths]).keys()
        node.close()
    return len(paths) - len(there)


def _fillers() -> list[Chain]:
    return [chain_of([n] * 8, passage(n, 200)) for n in range(20)]


def _num_found(client: LocalStoreClient, paths: list[Chain]) -> int:
    acquired = client.acquire(paths, _PATIENCE_S, claim=False)
    client.release(acquired.lease_id)
    return len(acquired.hits)
