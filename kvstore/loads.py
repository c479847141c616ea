"""Reads from the slow tiers straight into the arena, by a few threads, each segment once at a
time."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue

from kvstore.books import Books
from kvstore.checksum import layer_bytes
from kvstore.disposal import discard
from kvstore.errors import CorruptSegmentError, TierUnavailableError
from kvstore.leases import Lease
from kvstore.levels import Level
from kvstore.types import Extent, SegmentKey, SegmentSpec, TierName

_NUM_THREADS = 4
"""Of each tier: what a slow one keeps waiting keeps nobody from a faster one."""


@dataclass(eq=False, slots=True)
class Load:
    """One read. Who waits for it is pinned to the result; whom the deadline took is not."""

    spec: SegmentSpec
    extent: Extent
    tier: TierName
    """Where it is looked for now, at the end where it was found."""
    leases: set[Lease] = field(default_factory=set)
    ahead: bool = False
    """Begun for a queued request; nobody may wait for it yet."""
    started: float = 0.0
    """Monotonic time at which a thread took it up in this tier; 0: not yet."""
    late: bool = False
    """It hangs, or stands behind one that does: nobody waits for it any more."""
    done: bool = False
    succeeded: bool = False
    doomed: bool = False
    """Its passage was removed meanwhile: the result is not published."""


class Loads:
    """Reads in flight are guarded by the metadata lock; the reading itself is outside of it.

    A read cannot be interrupted. One that hangs keeps its thread and its extent, and nothing else:
    its waiters leave after `read_timeout_s`, its tier is left alone until it returns, and the
    threads do not keep the process alive.
    """

    def __init__(self, books: Books, read_timeout_s: float) -> None:
        self._books = books
        self._read_timeout_s = read_timeout_s
        self._flying: dict[SegmentKey, Load] = {}
        self._queues: dict[TierName, SimpleQueue[Load | None]] = {}
        self._threads: list[threading.Thread] = []
        for level in books.levels:
            self._queues[level.name] = SimpleQueue()
            for i in range(_NUM_THREADS):
                name = f"kvstore-load-{level.name}-{i}"
                thread = threading.Thread(target=self._run, args=(level,), name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    @property
    def num_ahead(self) -> int:
        """Reads that nobody waits for yet. Called with the lock held."""
        return sum(load.ahead and not load.leases for load in self._flying.values())

    def is_flying(self, key: SegmentKey) -> bool:
        return key in self._flying

    def __iter__(self) -> Iterator[Load]:
        return iter(self._flying.values())

    def read_ahead(self, spec: SegmentSpec, extent: Extent) -> None:
        """Start a read for a queued request, of what a tier is known to have. Called with the lock
        held."""
        level = self._books.stored_in(spec.key)
        assert level is not None, f"{spec.key} is read ahead from nowhere"
        self._start(Load(spec, extent, level.name, ahead=True))

    def join(self, spec: SegmentSpec, lease: Lease) -> Load | None:
        """Wait along with a read in flight, or start one; None when no tier can have it, or it
        hangs, or DRAM has no room. Called with the lock held."""
        load = self._flying.get(spec.key)
        if load is None:
            level = self._next_level(spec.key)
            if level is None:
                return None
            extent = self._books.reserve(spec.layout.nbytes)
            if extent is None:
                return None
            load = self._start(Load(spec, extent, level.name))
        if load.late:
            return None
        if load.ahead and not load.leases:
            self._books.counters.prefetch_late += 1
            self._books.queue_changed.notify_all()  # it is somebody's now: another may begin
        load.leases.add(lease)
        return load

    def give_up_hanging(self) -> None:
        """Called now and then with the lock held: let the waiters of hanging reads go."""
        oldest = time.monotonic() - self._read_timeout_s
        for level in self._books.levels:
            loads = [load for load in self._flying.values() if load.tier == level.name]
            level.slow = any(0 < load.started < oldest for load in loads)
            for load in loads if level.slow else ():
                load.late = True
            if level.slow:
                self._books.changed.notify_all()

    def close(self, timeout_s: float) -> None:
        """Let the threads end; one that hangs in the medium is left behind."""
        for level in self._books.levels:
            for _ in range(_NUM_THREADS):
                self._queues[level.name].put(None)
        give_up = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, give_up - time.monotonic()))

    def _start(self, load: Load) -> Load:
        self._flying[load.spec.key] = load
        self._books.awaited[load.spec.parent] += 1
        self._queues[load.tier].put(load)
        return load

    def _next_level(self, key: SegmentKey, after: Level | None = None) -> Level | None:
        """The first tier, behind the one that was tried, that may have the segment."""
        levels = self._books.levels
        rest = levels[levels.index(after) + 1 :] if after else levels
        return next((level for level in rest if not level.slow and level.may_have(key)), None)

    def _run(self, level: Level) -> None:
        while (load := self._queues[level.name].get()) is not None:
            crcs: tuple[int, ...] | None = None
            try:
                crcs = self._read(level, load)
            except CorruptSegmentError:
                self._set_aside(level, load.spec.key)
            except TierUnavailableError:
                pass  # the medium fails, the segment may be sound: those who wait compute it
            self._finish(level, load, crcs)

    def _read(self, level: Level, load: Load) -> tuple[int, ...] | None:
        """Checksums of what is now in the extent; None when nobody waits or nothing is there."""
        books, key = self._books, load.spec.key
        with books.lock:
            load.started = time.monotonic()
            if books.closed or not self._is_wanted(load):
                return None
            data = books.dram.view(load.extent)
            known = key in level.shelf
        if not known and not self._find(level, key):
            return None
        reader = level.tier.open(key)
        if reader is None:
            with books.lock:
                level.forget(key)
            return None
        with reader:
            if reader.spec != load.spec:
                raise CorruptSegmentError(str(key), f"is stored as {reader.spec}")
            for layer in range(load.spec.layout.num_layers):
                reader.layer(layer, layer_bytes(load.spec, data, layer))
            return reader.crcs

    def _is_wanted(self, load: Load) -> bool:
        return bool(load.leases) or (load.ahead and load.spec.key in self._books.window)

    def _find(self, level: Level, key: SegmentKey) -> bool:
        """Whether the medium has what no listing has shown yet; then the level knows it now."""
        stored = level.tier.find(key)
        if stored is None:
            return False
        with self._books.lock:
            double = level.adopt(stored)
        if double is not None:
            discard(self._books, level, double)
        return True

    def _finish(self, level: Level, load: Load, crcs: tuple[int, ...] | None) -> None:
        books, key = self._books, load.spec.key
        with books.lock:
            after = self._next_level(key, level) if crcs is None else None
            if after is not None and not books.closed and self._is_wanted(load):
                load.tier, load.started = after.name, 0.0
                self._queues[after.name].put(load)
                return
            del self._flying[key]
            books.awaited.subtract([load.spec.parent])
            if not books.awaited[load.spec.parent]:
                del books.awaited[load.spec.parent]
            load.done = True
            books.changed.notify_all()
            books.queue_changed.notify_all()
            if books.closed:  # the arena may be gone
                return
            if crcs is not None:
                level.read_bytes += load.spec.layout.nbytes
                books.counters.prefetch_reads += load.ahead
            self._land(load, crcs)

    def _land(self, load: Load, crcs: tuple[int, ...] | None) -> None:
        books, key = self._books, load.spec.key
        load.succeeded = crcs is not None and not load.doomed
        if crcs is None or load.doomed or books.dram.contains(key):
            books.dram.abort(load.extent)
            return
        slot = books.dram.complete(load.spec, load.extent, crcs)
        books.publish(slot)
        for lease in load.leases:
            if lease.open:
                books.leases.pin(lease, slot)
        if load.ahead and not load.leases:
            books.ahead.add(key)

    def _set_aside(self, level: Level, key: SegmentKey) -> None:
        books = self._books
        with books.lock:
            books.counters.corrupt += 1
            stored = level.detach(key)
        if stored is not None:
            discard(books, level, stored, damaged=True)
