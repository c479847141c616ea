"""Reads from the SSD straight into the arena, by a few threads, each segment once at a time."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue

from kvstore.books import Books
from kvstore.checksum import layer_bytes
from kvstore.disposal import discard
from kvstore.errors import CorruptSegmentError, TierUnavailableError
from kvstore.leases import Lease
from kvstore.types import Extent, SegmentKey, SegmentSpec

_NUM_THREADS = 4


@dataclass(eq=False, slots=True)
class Load:
    """One read. Who waits for it is pinned to the result; whom the deadline took is not."""

    spec: SegmentSpec
    extent: Extent
    leases: set[Lease] = field(default_factory=set)
    ahead: bool = False
    """Begun for a queued request; nobody may wait for it yet."""
    done: bool = False
    succeeded: bool = False
    doomed: bool = False
    """Its passage was removed meanwhile: the result is not published."""


class Loads:
    """Reads in flight are guarded by the metadata lock; the reading itself is outside of it.

    A read cannot be interrupted. One that hangs keeps its thread and its extent, and nothing else:
    its waiters leave at their deadline, and the threads do not keep the process alive.
    """

    def __init__(self, books: Books) -> None:
        self._books = books
        self._flying: dict[SegmentKey, Load] = {}
        self._queue: SimpleQueue[Load | None] = SimpleQueue()
        names = [f"kvstore-load-{i}" for i in range(_NUM_THREADS)] if books.ssd else []
        self._threads = [threading.Thread(target=self._run, name=n, daemon=True) for n in names]
        for thread in self._threads:
            thread.start()

    @property
    def num_ahead(self) -> int:
        """Reads that nobody waits for yet. Called with the lock held."""
        return sum(not load.leases for load in self._flying.values())

    def is_flying(self, key: SegmentKey) -> bool:
        return key in self._flying

    def read_ahead(self, spec: SegmentSpec, extent: Extent) -> None:
        """Start a read for a queued request. Called with the lock held."""
        load = self._flying[spec.key] = Load(spec, extent, ahead=True)
        self._queue.put(load)

    def __iter__(self) -> Iterator[Load]:
        return iter(self._flying.values())

    def join(self, spec: SegmentSpec, lease: Lease) -> Load | None:
        """Wait along with a read in flight, or start one; None when the SSD has not got it or DRAM
        has no room. Called with the lock held."""
        load = self._flying.get(spec.key)
        if load is None:
            if spec.key not in self._books.ssd_shelf:
                return None
            extent = self._books.reserve(spec.layout.nbytes)
            if extent is None:
                return None
            load = self._flying[spec.key] = Load(spec, extent)
            self._queue.put(load)
        if load.ahead and not load.leases:
            self._books.counters.prefetch_late += 1
            self._books.queue_changed.notify_all()  # it is somebody's now: another may begin
        load.leases.add(lease)
        return load

    def close(self, timeout_s: float) -> None:
        """Let the threads end; one that hangs in the disk is left behind."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join(timeout_s / len(self._threads))

    def _run(self) -> None:
        while (load := self._queue.get()) is not None:
            crcs: tuple[int, ...] | None = None
            try:
                crcs = self._read(load)
            except CorruptSegmentError:
                self._quarantine(load.spec.key)
            except TierUnavailableError:
                pass  # the medium fails, the segment may be sound: those who wait compute it
            self._finish(load, crcs)

    def _read(self, load: Load) -> tuple[int, ...] | None:
        """Checksums of what is now in the extent; None when nobody waits or nothing is there."""
        books, key = self._books, load.spec.key
        assert books.ssd is not None
        with books.lock:
            wanted = load.leases or (load.ahead and key in books.window)
            if books.closed or not wanted:
                return None
            data = books.dram.view(load.extent)
        reader = books.ssd.open(key)
        if reader is None:
            with books.lock:
                books.detach_file(key)
            return None
        with reader:
            for layer in range(load.spec.layout.num_layers):
                reader.layer(layer, layer_bytes(load.spec, data, layer))
            return reader.crcs

    def _finish(self, load: Load, crcs: tuple[int, ...] | None) -> None:
        books, key = self._books, load.spec.key
        with books.lock:
            del self._flying[key]
            load.done = True
            books.changed.notify_all()
            books.queue_changed.notify_all()
            if books.closed:  # the arena may be gone
                return
            if crcs is None or load.doomed or books.dram.contains(key):
                books.dram.abort(load.extent)
                load.succeeded = crcs is not None and not load.doomed
            else:
                slot = books.dram.complete(load.spec, load.extent, crcs)
                books.publish(slot)
                for lease in load.leases:
                    if lease.open:
                        books.leases.pin(lease, slot)
                load.succeeded = True
                if load.ahead and not load.leases:
                    books.ahead.add(key)
            books.counters.prefetch_reads += load.ahead and crcs is not None
            if crcs is not None:
                books.counters.ssd_read_bytes += load.spec.layout.nbytes

    def _quarantine(self, key: SegmentKey) -> None:
        books = self._books
        assert books.ssd is not None
        with books.lock:
            books.counters.corrupt += 1
            file = books.detach_file(key)
        if file is not None:
            discard(books, file, damaged=True)
