"""A lock that knows who held it for how long."""

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

from kvstore.store import KVStore

_Lock = threading.Lock


@dataclass(slots=True)
class Holds:
    """Of one operation."""

    count: int = 0
    longest_s: float = 0.0
    longest_cpu_s: float = 0.0
    total_s: float = 0.0

    def add(self, held_s: float, cpu_s: float) -> None:
        self.count += 1
        self.total_s += held_s
        self.longest_s = max(self.longest_s, held_s)
        self.longest_cpu_s = max(self.longest_cpu_s, cpu_s)


class HeldLock:
    """For `threading.Lock`. A hold is the time from its acquisition to its release; where another
    process took the core meanwhile, the holder's own time on the core."""

    def __init__(self) -> None:
        self._lock = _Lock()
        self._since = (0.0, 0.0, 0)
        self.operation = ""
        """The name under which the next holds are counted; empty: not at all."""
        self.holds: dict[str, Holds] = {}

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        taken = self._lock.acquire(blocking, timeout)
        if taken and self.operation:
            self._since = _now()
        return taken

    def release(self) -> None:
        if self.operation and self._since[0]:
            (began, cpu, switches), (now, cpu_now, switches_now) = self._since, _now()
            cpu_s, held_s = cpu_now - cpu, now - began
            held_s = cpu_s if switches_now != switches else held_s
            self.holds.setdefault(self.operation, Holds()).add(held_s, cpu_s)
        self._since = (0.0, 0.0, 0)
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
            self.operation = operation
        yield
        with self:
            self.operation = ""


@contextmanager
def measured_locks() -> Iterator[None]:
    """Locks that are made meanwhile are measured ones."""
    with mock.patch.object(threading, "Lock", HeldLock):
        yield


def lock_of(store: KVStore) -> HeldLock:
    """The metadata lock of a store that was made with measured locks."""
    lock: object = store._books.lock
    assert isinstance(lock, HeldLock), f"{lock} is not measured"
    return lock


def _now() -> tuple[float, float, int]:
    switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
    return time.perf_counter(), time.thread_time(), switches
