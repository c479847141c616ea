"""Calls that nobody should make: each is refused, and changes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from kvstore.errors import KVStoreError
from kvstore.types import HolderId, Path, SegmentKey, TicketId
from tests.kvstore.machine.model import require
from tests.kvstore.machine.universe import KEYS, PATHS
from tests.kvstore.machine.world import Process, World

Call = Callable[[World, Process], object]
_LONG = PATHS[-1]


def _asks(path: Path) -> Call:
    return lambda world, process: process.acquire([path], 1.0)


def _layout(**changes: float) -> Path:
    spec = _LONG[-1]
    return (*_LONG[:-1], replace(spec, layout=replace(spec.layout, **changes)))  # type: ignore[arg-type]  # wrong on purpose


def _key(placement: bytes, digest: bytes) -> Path:
    return (*_LONG[:-1], replace(_LONG[-1], key=SegmentKey(placement, digest)))


MISTAKES: Sequence[Call] = (
    _asks(_LONG[::-1]),
    _asks((_LONG[0], _LONG[-1])),
    _asks((_LONG[0], _LONG[0])),
    _asks((replace(_LONG[0], parent=_LONG[0].parent[1:]), *_LONG[1:])),
    _asks((*_LONG[:-1], replace(_LONG[-1], tag=b""))),
    _asks(_key(b"", KEYS[-1].digest)),
    _asks(_key(KEYS[-1].placement, b"short")),
    _asks(_layout(num_tokens=0)),
    _asks(_layout(num_layers=-1)),
    lambda world, process: world.store.acquire(PATHS[:1], HolderId("../../etc/passwd"), 1.0),
    lambda world, process: world.store.acquire(PATHS[:1], HolderId("0" * 16), 1.0),
    lambda world, process: world.store.register(HolderId("x")),
    lambda world, process: world.store.commit([TicketId(-1)], [(0, 0, 0)]),
)


def mistake(world: World, who: int, which: int) -> bool:
    refused = False
    try:
        MISTAKES[which](world, world.processes[who])
    except (ValueError, KVStoreError):
        refused = True
    require(refused, "contract", f"mistake {which} was answered")
    return True
