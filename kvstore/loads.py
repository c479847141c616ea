"""Reads from the slow tiers into the arena, each segment once at a time, and who gets them."""

import time
from collections.abc import Collection, Generator, Iterator

from kvstore.books import Books
from kvstore.leases import Lease
from kvstore.levels import Level
from kvstore.load import Load
from kvstore.reading import Reading
from kvstore.tiers.dram import Slot
from kvstore.types import Extent, SegmentKey, SegmentSpec


class Loads:
    """Reads in flight are guarded by the metadata lock; the reading itself is outside of it.

    A read cannot be interrupted. One that hangs keeps its thread and its extent, and nothing else:
    its waiters leave after `read_timeout_s` without a byte, its tier is left alone until it
    returns, and the threads do not keep the process alive.
    """

    def __init__(self, books: Books, read_timeout_s: float) -> None:
        self._books = books
        self._read_timeout_s = read_timeout_s
        self._flying: dict[SegmentKey, Load] = {}
        self._readings = {
            lv.name: Reading(books, lv, self._finish, self._is_in_use) for lv in books.levels
        }

    @property
    def num_ahead(self) -> int:
        """Reads that nobody waits for yet. Called with the lock held."""
        return sum(load.is_unasked for load in self._flying.values())

    def is_flying(self, key: SegmentKey) -> bool:
        return key in self._flying

    def __iter__(self) -> Iterator[Load]:
        return iter(self._flying.values())

    def read_ahead(self, spec: SegmentSpec, extent: Extent) -> None:
        """Start a read for a queued request, of what a tier is known to have. Called with the lock
        held."""
        level = self._books.stored_in(spec.key)
        assert level is not None, f"{spec.key} is read ahead from nowhere"
        self._start(level, spec, extent).ahead = True

    def join(
        self, spec: SegmentSpec, lease: Lease, streamed: bool
    ) -> Generator[None, None, Load | None]:
        """Wait along with a read in flight, or start one; None when no tier can have it, or it
        hangs, or DRAM has no room, or has it by now. In steps, called with the lock held."""
        if spec.key not in self._flying and self._next_level(spec) is not None:
            yield from self._begin(spec)
        load = self._flying.get(spec.key)
        if load is None or load.late:
            return None
        if load.is_unasked:
            self._books.counters.prefetch_late += 1
            self._books.queue_changed.notify_all()  # it is somebody's now: another may begin
            self._readings[load.tier].resume()
        load.leases.add(lease)
        load.takes_turns |= streamed
        return load

    def _begin(self, spec: SegmentSpec) -> Generator[None, None, None]:
        """A read, unless another has begun it while room was made."""
        extent = yield from self._books.reserving(spec)
        if extent is None:
            return
        level, is_here = self._next_level(spec), self._books.dram.contains(spec.key)
        if level is None or is_here or spec.key in self._flying:
            self._books.dram.abort(extent)
        else:
            self._start(level, spec, extent)

    def _is_in_use(self, level: Level) -> bool:
        """Whether somebody waits for a read of this tier. Called with the lock held."""
        loads = self._flying.values()
        return any(load.tier == level.name and not load.is_unasked for load in loads)

    def keep(self, lease: Lease, keys: Collection[SegmentKey]) -> bool:
        """Of what it reads as it comes, the lease is to be pinned to these alone; whether there are
        any. Called with the lock held."""
        read = [load for load in self._flying.values() if lease in load.readers]
        for load in read:
            if load.spec.key not in keys:
                load.readers.remove(lease)
        return any(lease in load.readers for load in read)

    def give_up_hanging(self) -> None:
        """Called now and then with the lock held: let go who waits for hanging reads."""
        oldest = time.monotonic() - self._read_timeout_s
        for level in self._books.levels:
            loads = [load for load in self._flying.values() if load.tier == level.name]
            level.slow = any(0 < load.silent_since < oldest for load in loads)
            for load in loads if level.slow else ():
                load.late = True
                load.arrival.hang()
            if level.slow:
                self._books.changed.notify_all()

    def stop(self) -> None:
        """Let the threads end, behind `books.closed`."""
        with self._books.lock:
            for reading in self._readings.values():
                reading.stop()

    def await_end(self, give_up: float) -> None:
        """Until the monotonic time `give_up`: one that hangs in the medium is left behind."""
        for reading in self._readings.values():
            reading.join(give_up)

    def _start(self, level: Level, spec: SegmentSpec, extent: Extent) -> Load:
        """The extent is the load's from here on, whatever comes of it."""
        load = Load(spec, extent, doomed=self._books.is_being_removed(spec))
        self._flying[spec.key] = load
        self._books.dram.holds.begin(spec.parent)  # evicted now, nobody could match the segment
        try:
            self._readings[level.name].put(load)
        except BaseException:
            self._end(load)
            self._books.dram.abort(extent)
            raise
        return load

    def _next_level(self, spec: SegmentSpec, after: Level | None = None) -> Level | None:
        """The first tier, behind the one that was tried, that may have the segment."""
        levels = self._books.levels
        rest = levels[levels.index(after) + 1 :] if after else levels
        return next((lv for lv in rest if not lv.slow and self._books.may_have(lv, spec)), None)

    def _finish(self, level: Level, load: Load) -> None:
        books = self._books
        with books.lock:
            self._readings[level.name].resume()
            try:
                if load.crcs is None and self._try_next(level, load):
                    return
            except BaseException:
                self._end(load)
                if books.dram.is_reserved(load.extent):
                    books.dram.abort(load.extent)
                raise
            self._end(load)
            if books.closed:  # the arena may be gone
                return
            if load.crcs is not None:
                level.read_bytes += load.spec.layout.nbytes
                books.counters.prefetch_reads += load.ahead
            self._land(load)

    def _end(self, load: Load) -> None:
        """Nobody waits for it any more. Called with the lock held."""
        books, parent = self._books, load.spec.parent
        del self._flying[load.spec.key]
        books.dram.holds.end(parent)
        load.done = True
        books.changed.notify_all()
        books.queue_changed.notify_all()

    def _try_next(self, level: Level, load: Load) -> bool:
        """Whether a tier behind this one is asked. Those who read along keep away from its bytes,
        which a codec may have changed: what they had is gone, and seen to be."""
        books = self._books
        after = self._next_level(load.spec, level)
        if after is None or books.closed or not load.is_wanted(books.window):
            return False
        if load.readers:
            load.readers.clear()
            books.dram.abort(load.extent)
            load.extent = books.reserve_again(load.spec)
        self._readings[after.name].put(load)
        return True

    def _land(self, load: Load) -> None:
        """Publish what is wanted; what is not is still there for those who read along."""
        books, key, crcs = self._books, load.spec.key, load.crcs
        readers = [lease for lease in load.readers if lease.open]
        is_new = not load.doomed and books.can_publish(load.spec)
        load.succeeded = (
            crcs is not None and not load.doomed and (is_new or books.dram.contains(key))
        )
        if crcs is None or not (is_new or readers):
            books.dram.abort(load.extent)
            return
        try:
            slot = books.dram.complete(load.spec, load.extent, crcs)
        except BaseException:
            load.succeeded = False
            books.dram.abort(load.extent)
            raise
        books.dram.borrow(slot)
        try:
            load.arrival.complete()
            for lease in readers:
                books.leases.pin(lease, slot)
            if is_new:
                self._publish(load, slot)
        except BaseException:
            load.succeeded = False
            raise
        finally:
            books.dram.give_back(slot)

    def _publish(self, load: Load, slot: Slot) -> None:
        books, key = self._books, load.spec.key
        books.publish(slot)
        for lease in load.leases:
            if lease.open:
                books.leases.pin(lease, slot)
        if load.readers:  # a use, which `acquire` could not note of what was not there yet
            books.dram_shelf.touch([key])
            books.offer(slot)
        if load.is_unasked:
            books.ahead.put(key.digest, None)
