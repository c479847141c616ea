"""How long a store's metadata lock is held at a time, and a store of many small segments."""

import gc
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, SimpleNamespace
from unittest import mock

from kvstore import garbage
from kvstore.checksum import segment_crcs
from kvstore.config import StoreConfig
from kvstore.keys import extend, make_path
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Layout, Path, SegmentSpec
from tests.kvstore.segments import ROOT

_LAYOUT = Layout(1, 1, 0, 1, "float16")
_AT_ONCE = 256
_Lock = threading.Lock
_OF_LOCKS = (__file__, threading.__file__, garbage.__file__)


@dataclass(slots=True)
class Holds:
    """Of one operation."""

    count: int = 0
    longest_s: float = 0.0
    """By the clock, whoever took the core meanwhile."""
    longest_cpu_s: float = 0.0
    """In processor time of the thread that held it."""
    longest_by: str = ""
    """The function that did."""
    total_s: float = 0.0

    def add(self, held_s: float, cpu_s: float, caller: FrameType) -> None:
        self.count += 1
        self.total_s += held_s
        self.longest_s = max(self.longest_s, held_s)
        if cpu_s > self.longest_cpu_s:
            self.longest_cpu_s = cpu_s
            self.longest_by = _outside(caller).f_code.co_qualname


class HeldLock:
    """A lock that knows for how long it was held, and for what. The measure is processor time:
    other processes of a busy machine do not lengthen it."""

    def __init__(self) -> None:
        self._lock = _Lock()
        self._since = self._cpu_since = 0.0
        self._operation = ""
        self.holds: dict[str, Holds] = {}

    @property
    def longest_cpu_s(self) -> float:
        return max((holds.longest_cpu_s for holds in self.holds.values()), default=0.0)

    @property
    def longest_by(self) -> str:
        longest = max(self.holds.values(), key=lambda h: h.longest_cpu_s, default=Holds())
        return longest.longest_by

    def reset(self) -> None:
        self.holds = {}

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        taken = self._lock.acquire(blocking, timeout)
        if taken:
            self._since, self._cpu_since = time.perf_counter(), time.thread_time()
        return taken

    def release(self) -> None:
        held_s, cpu_s = time.perf_counter() - self._since, time.thread_time() - self._cpu_since
        self.holds.setdefault(self._operation, Holds()).add(held_s, cpu_s, sys._getframe(1))
        self._lock.release()

    def locked(self) -> bool:
        return self._lock.locked()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    @contextmanager
    def counting(self, operation: str) -> Iterator[None]:
        """Every hold meanwhile, whoever's it is, counts as the operation's."""
        with self:
            self._operation = operation
        yield
        with self:
            self._operation = ""


@contextmanager
def measured_locks() -> Iterator[None]:
    """The metadata lock of a store that is made meanwhile is a measured one."""
    threads = SimpleNamespace(Lock=HeldLock, Condition=threading.Condition)
    with mock.patch("kvstore.books.threading", threads):
        yield


def lock_of(store: KVStore) -> HeldLock:
    """The metadata lock of a store that was made with measured locks."""
    lock: object = store._books.lock
    assert isinstance(lock, HeldLock), f"{lock} is not measured"
    return lock


@contextmanager
def watched(config: StoreConfig) -> Iterator[tuple[KVStore, HeldLock]]:
    """A store behind such a lock, without the pauses of Python's collector (see
    `kvstore.garbage`)."""
    with measured_locks():
        store = KVStore(config, "node")
    lock = lock_of(store)
    try:
        assert store.flush(30)
        gc.disable()
        yield store, lock
    finally:
        gc.enable()
        store.close()


def tiny_paths(num: int, first: int = 0) -> list[Path]:
    """Chains of one segment, a granule of the arena each, with placements of their own."""
    head = make_path(ROOT, [[1]], _LAYOUT)
    numbers = range(first, first + num)
    return [extend(ROOT, head, [n >> 16, n & 0xFFFF], _LAYOUT)[1:] for n in numbers]


def tiny_family(num: int) -> tuple[Path, list[Path]]:
    """A chain of one segment, and as many chains that follow it."""
    head = make_path(ROOT, [[1]], _LAYOUT)
    return head, [extend(ROOT, head, [n >> 16, n & 0xFFFF], _LAYOUT) for n in range(num)]


def crcs_of_zeros(spec: SegmentSpec) -> tuple[int, ...]:
    """Of a segment that nobody has written into an arena that is new."""
    return segment_crcs(spec, memoryview(bytes(spec.layout.nbytes)))


def store_all(store: KVStore, config: StoreConfig, paths: Sequence[Path]) -> None:
    client = LocalStoreClient(store, config.dram_dir)
    for start in range(0, len(paths), _AT_ONCE):
        acquired = client.acquire(paths[start : start + _AT_ONCE], 60)
        client.commit(acquired, list(acquired.tickets.values()))
        client.release(acquired.lease_id)
    client.close()


def _outside(frame: FrameType) -> FrameType:
    """The caller, past locks and conditions."""
    while frame.f_back and frame.f_code.co_filename in _OF_LOCKS:
        frame = frame.f_back
    return frame
