"""Write-behind: what is published in DRAM goes to a slow tier, later and on a thread of its own.

Another thread first recovers what the tier has from before. Reading does not wait for that, and
writing only until all that is there is counted: what fits is written beside the recovery, and what
would have to displace something waits for its end.
"""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing

from kvstore.books import Books
from kvstore.disposal import discard
from kvstore.errors import CapacityError, CorruptSegmentError, TierUnavailableError
from kvstore.levels import Level
from kvstore.remembering import Remembering
from kvstore.tiers.dram import Slot
from kvstore.tiers.segment_object import Stored
from kvstore.types import SegmentKey, SegmentSpec

logger = logging.getLogger(__name__)

_PAUSE_S = 30.0
_LOOK_S = 0.1
"""How often, while a tier recovers, it is looked whether it is listed by now."""


class WriteBehind:
    """The queue is `Level.unwritten`. Only what is being written is pinned: memory that is needed
    now is worth more than a write that can be dropped and counted."""

    def __init__(self, books: Books, level: Level, memory: Remembering | None) -> None:
        """`memory`: what was learned in an earlier life."""
        self._books = books
        self._memory = memory
        self._level = level
        self._stopping = False
        self._paused_until = 0.0
        self._warned = False
        self._recover_again_at = 0.0
        self._making_room = threading.Lock()
        self._going: list[Stored] = []  # evicted, not yet off the medium
        self._threads = (
            books.threads.start(f"kvstore-recover-{level.name}", self._recovery_step),
            books.threads.start(f"kvstore-{level.name}", self._step),
        )

    def flush(self, timeout_s: float) -> bool:
        """Whether everything that was queued has been written or given up in time."""
        with self._books.lock:
            return self._books.work.wait_for(lambda: self._level.idle, timeout_s)

    def drain(self, give_up: float) -> None:
        """Until what is queued is written, or the monotonic time `give_up`."""
        level = self._level
        with self._books.lock:
            self._books.work.wait_for(
                lambda: not level.unwritten and level.writing is None,
                max(0.0, give_up - time.monotonic()),
            )

    def stop(self) -> None:
        with self._books.lock:
            self._stopping = True
            self._level.tier.stop()
            self._books.work.notify_all()

    def await_end(self, give_up: float) -> None:
        for thread in self._threads:
            thread.await_end(give_up)

    def _step(self) -> bool:
        """Write one segment."""
        slot = self._next()
        if slot is None:
            return False
        written = False
        try:
            written = self._write(slot)
        finally:
            self._finish(slot, written)
        return True

    def _recovery_step(self) -> bool:
        """Recover, once the last failure was long enough ago; False when that is done."""
        left = self._recover_again_at - time.monotonic()
        with self._books.lock:
            if self._books.work.wait_for(lambda: self._stopping, max(0.0, left)):
                return False
        self._recover_again_at = time.monotonic() + _PAUSE_S  # unless it succeeds
        return not self._recover()

    def _recover(self) -> bool:
        """Whether the level knows all that the medium has; False when it could not be asked."""
        books, level = self._books, self._level
        try:
            if books.deletions is not None and not books.deletions.is_read:
                raise TierUnavailableError(level.name, level.distrust)
            if not level.distrust:
                self._adopt_all()
            if self._stopping:
                return False
            self._trim()
        except TierUnavailableError as error:
            self._pause(error)
            return False
        with books.lock:
            level.recovering = False
            books.work.notify_all()
            books.queue_changed.notify_all()
        return True

    def _adopt_all(self) -> None:
        """That the medium has, as long as the store is not closing."""
        books, level = self._books, self._level
        if self._memory is not None:
            self._memory.recall(level.tier)
        with closing(level.tier.recover()) as found:
            for stored in self._parents_known(found):
                with books.lock:
                    if self._stopping:
                        return
                    double = level.adopt(stored, recovered=True)
                if double is not None:
                    discard(books, level, double)

    def _parents_known(self, found: Iterator[Stored]) -> Iterator[Stored]:
        """What was found, as it comes; where there are deletions to be made, all of it is looked at
        before any is taken in: what follows a deleted passage is known by its parents."""
        tombstones = self._level.tombstones
        if not tombstones:
            return found
        everything, num_doomed = list(found), -1
        while num_doomed < (num_doomed := self._num_doomed(everything)):
            pass
        return iter(everything)

    def _num_doomed(self, found: Iterable[Stored]) -> int:
        num_doomed = 0
        for stored in found:
            with self._books.lock:
                num_doomed += self._level.tombstones.dooms(stored.entry.spec)
        return num_doomed

    def _next(self) -> Slot | None:
        books, level = self._books, self._level
        with books.lock:
            while not self._stopping:
                if level.unwritten and self._may_write():
                    key, slot = level.unwritten.popitem(last=False)
                    if time.monotonic() >= self._paused_until:
                        books.dram.borrow(slot)
                        level.writing = key
                        return slot
                    level.writes_dropped += 1
                    books.work.notify_all()
                else:
                    books.work.wait(_LOOK_S if level.recovering else None)
        return None

    def _may_write(self) -> bool:
        """While the tier recovers: what fits, as soon as all that is there is counted. What is to
        go for more is known when it has recovered. Called with the lock held."""
        level = self._level
        if not level.recovering:
            return True
        first = next(iter(level.unwritten.values()))
        return level.tier.is_listed and level.tier.has_room(first.spec)

    def _write(self, slot: Slot) -> bool:
        """Whether the tier has it now. What goes wrong is counted."""
        books, level = self._books, self._level
        try:
            self._make_room(slot.spec)
            level.tier.put(slot.spec, books.dram.view(slot.extent), slot.crcs)
        except CapacityError:
            with books.lock:
                level.writes_dropped += 1
        except CorruptSegmentError as error:
            logger.error("a segment changed in memory after it was published: %s", error)
            with books.lock:
                books.condemn(slot)
        except TierUnavailableError as error:
            self._pause(error)
        except BaseException:
            with books.lock:
                level.write_failures += 1
            raise
        else:
            self._warned = False
            return True
        return False

    def _trim(self) -> None:
        """Discard what is beyond the capacity: a predecessor may have had more of it."""
        level = self._level
        with self._making_room:
            with self._books.lock:
                excess = level.tier.used_bytes - level.tier.capacity_bytes
                self._evict(level.shelf.next_to_go(excess))
            self._discard()

    def _make_room(self, spec: SegmentSpec) -> None:
        """Discard objects until one more fits."""
        with self._making_room:
            with self._books.lock:
                self._evict(self._victims(spec))
            self._discard()

    def _victims(self, spec: SegmentSpec) -> list[SegmentKey]:
        tier = self._level.tier
        missing = tier.object_nbytes(spec) - (tier.capacity_bytes - tier.used_bytes)
        return self._level.victims(spec, missing, self._books.next_use()) if missing > 0 else []

    def _evict(self, keys: Iterable[SegmentKey]) -> None:
        for key in keys:
            if (stored := self._level.detach(key, evicted=True)) is not None:
                self._going.append(stored)

    def _discard(self) -> None:
        """Raises TierUnavailableError; then the rest of them goes at the next attempt."""
        level = self._level
        while self._going:
            stored = self._going.pop()
            try:
                level.tier.discard(stored)
            except TierUnavailableError:
                self._going.append(stored)
                raise

    def _finish(self, slot: Slot, written: bool) -> None:
        books, level, spec = self._books, self._level, slot.spec
        unwanted = None
        with books.lock:
            level.writing = None
            published = slot.published
            books.dram.give_back(slot)
            books.work.notify_all()
            if written:
                level.written_bytes += spec.layout.nbytes
            if written and not published:  # removed while it was being written
                unwanted = level.tier.detach(spec.key)
            elif written and spec.key not in level:
                self._shelve(spec.key)
        if unwanted is not None:
            discard(books, level, unwanted)

    def _shelve(self, key: SegmentKey) -> None:
        """Known here from now on, or not in the tier either. Called with the lock held."""
        if (stored := self._level.tier.stored(key)) is None:
            return
        try:
            self._level.know(stored)
        except BaseException:
            if (gone := self._level.tier.detach(key)) is not None:
                self._going.append(gone)
            raise

    def _pause(self, error: TierUnavailableError) -> None:
        """Leave a failing medium alone for a while; say so once until it works again."""
        self._paused_until = time.monotonic() + _PAUSE_S
        with self._books.lock:
            self._level.write_failures += 1
        if not self._warned:
            self._warned = True
            logger.warning("%s: segments are kept in memory alone for now", error)
