"""Calls that nobody should make: each is refused, and changes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from kvstore.errors import KVStoreError
from kvstore.types import HolderId, SegmentKey, TicketId
from tests.kvstore.machine.model import require
from tests.kvstore.machine.universe import KEYS, PATHS
from tests.kvstore.machine.world import Process, World

Call = Callable[[World, Process], object]
_LONG = max(PATHS, key=len)
_TEXT: Any = "eightchr"
_NAN, _INF = float("nan"), float("inf")
_LAYOUTS: Sequence[dict[str, Any]] = (
    {"num_tokens": 0}, {"num_tokens": -3}, {"num_tokens": 2.0}, {"num_tokens": True},
    {"num_layers": -1}, {"num_layers": 10**6}, {"num_kv_heads": 0}, {"head_dim": -8},
    {"num_kv_heads": -2, "head_dim": -8}, {"dtype": "float99"},
)  # fmt: skip
_PATHS: Sequence[object] = (
    _LONG[::-1],
    (_LONG[0], _LONG[-1]),
    (_LONG[0], _LONG[0]),
    (replace(_LONG[0], parent=_LONG[0].parent[1:]), *_LONG[1:]),
    (*_LONG[:-1], replace(_LONG[-1], tag=b"")),
    (*_LONG[:-1], replace(_LONG[-1], tag=_TEXT)),
    (*_LONG[:-1], replace(_LONG[-1], key=SegmentKey(b"", KEYS[-1].digest))),
    (*_LONG[:-1], replace(_LONG[-1], key=SegmentKey(KEYS[-1].placement, b"short"))),
    (replace(_LONG[0], parent=_LONG[0].key.digest),),
    (replace(_LONG[0], parent=_LONG[1].key.digest), *_LONG[1:]),
    *((*_LONG[:-1], replace(_LONG[-1], layout=replace(_LONG[-1].layout, **changes)))
      for changes in _LAYOUTS),
)  # fmt: skip
_DEADLINES: Sequence[float] = (_NAN, _INF, -1.0)


def _asks(path: object) -> Call:
    return lambda world, process: world.store.acquire([path], process.holder_id, 1.0)  # type: ignore[list-item]


def _waits(deadline_s: float) -> Sequence[Call]:
    return (
        lambda world, process: world.store.acquire(PATHS[:1], process.holder_id, deadline_s),
        lambda world, process: world.store.wait(KEYS[:1], deadline_s),
        lambda world, process: world.store.announce(
            "request", _LONG[0].tenant, KEYS[:1], deadline_s
        ),
    )


def _commits(world: World, process: Process) -> None:
    """A ticket that is open, twice; another one without its checksums."""
    tickets = [ticket_id for held in process.held for ticket_id in held.claims]
    world.store.commit([*tickets[:1], *tickets[:1], TicketId(-1)], [(0, 0, 0)], process.holder_id)


MISTAKES: Sequence[Call] = (
    *map(_asks, _PATHS),
    *(call for deadline_s in _DEADLINES for call in _waits(deadline_s)),
    lambda world, process: world.store.acquire(PATHS[:1], HolderId("../../etc/passwd"), 1.0),
    lambda world, process: world.store.acquire(PATHS[:1], HolderId("0" * 16), 1.0),
    lambda world, process: world.store.register(HolderId("x")),
    lambda world, process: world.store.commit([TicketId(-1)], [(0, 0, 0)], process.holder_id),
    _commits,
)


def mistake(world: World, who: int, which: int) -> bool:
    refused = False
    try:
        MISTAKES[which](world, world.processes[who])
    except (ValueError, KVStoreError):
        refused = True
    require(refused, "contract", f"mistake {which} was answered")
    return True
