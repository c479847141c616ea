"""How long a store's metadata lock is held at a time, and a store of many small segments."""

import gc
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

from kvstore.config import StoreConfig
from kvstore.keys import extend, make_path
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Layout, Path
from tests.kvstore.segments import ROOT

_LAYOUT = Layout(1, 1, 0, 1, "float16")
_AT_ONCE = 256
_Lock = threading.Lock


class HeldLock:
    """A lock that knows its longest hold: by the clock, and in processor time, which other
    processes of a busy machine do not lengthen."""

    def __init__(self) -> None:
        self._lock = _Lock()
        self._since = self._cpu_since = 0.0
        self._by = ""
        self.reset()

    def reset(self) -> None:
        self.longest_s = self.longest_cpu_s = 0.0
        self.longest_by = ""
        """The function that held it for the longest processor time."""
        self.num_holds = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        taken = self._lock.acquire(blocking, timeout)
        if taken:
            self._since, self._cpu_since = time.perf_counter(), time.thread_time()
        return taken

    def release(self) -> None:
        held, cpu = time.perf_counter() - self._since, time.thread_time() - self._cpu_since
        self.num_holds += 1
        self.longest_s = max(self.longest_s, held)
        if cpu > self.longest_cpu_s:
            self.longest_cpu_s = cpu
            caller = sys._getframe(1)
            while caller.f_back and caller.f_code.co_filename in (__file__, threading.__file__):
                caller = caller.f_back
            self.longest_by = caller.f_code.co_qualname
        self._lock.release()

    def locked(self) -> bool:
        return self._lock.locked()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


@contextmanager
def watched(config: StoreConfig) -> Iterator[tuple[KVStore, HeldLock]]:
    """A store behind such a lock, without the pauses of Python's collector (see
    `kvstore.garbage`)."""
    threads = SimpleNamespace(Lock=HeldLock, Condition=threading.Condition)
    with mock.patch("kvstore.books.threading", threads):
        store = KVStore(config, "node")
    lock = store._books.lock
    assert isinstance(lock, HeldLock)
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


def store_all(store: KVStore, config: StoreConfig, paths: Sequence[Path]) -> None:
    client = LocalStoreClient(store, config.dram_dir)
    for start in range(0, len(paths), _AT_ONCE):
        acquired = client.acquire(paths[start : start + _AT_ONCE], 60)
        client.commit(acquired, list(acquired.tickets.values()))
        client.release(acquired.lease_id)
    client.close()
