"""Write-behind: what is published in DRAM goes to the SSD, later and on a thread of its own."""

import logging
import threading
import time

from kvstore.books import Books
from kvstore.codec import file_nbytes
from kvstore.disposal import discard
from kvstore.errors import CapacityError, CorruptSegmentError, TierUnavailableError
from kvstore.tiers.base import Entry
from kvstore.tiers.dram import Slot
from kvstore.tiers.segment_file import SegmentFile
from kvstore.types import SegmentKey

logger = logging.getLogger(__name__)

_PAUSE_S = 30.0


class WriteBehind:
    """The queue is `Books.unwritten`. Only what is being written is pinned: memory that is needed
    now is worth more than a write that can be dropped and counted."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._stopping = False
        self._paused_until = 0.0
        self._warned = False
        self._going: list[SegmentFile] = []  # evicted, not yet off the disk
        self.current: SegmentKey | None = None
        """Being written: perhaps in the tier already, not yet on the shelf."""
        self._thread = threading.Thread(target=self._run, name="kvstore-write", daemon=True)
        if books.ssd:
            self._make_room(0)  # a predecessor may have had more room
            self._thread.start()

    def flush(self, timeout_s: float) -> bool:
        """Whether everything that was queued has been written or given up in time."""
        books = self._books
        with books.lock:
            return books.work.wait_for(
                lambda: not books.unwritten and self.current is None, timeout_s
            )

    def close(self, timeout_s: float) -> None:
        """Write what is queued while time lasts, then stop."""
        give_up = time.monotonic() + timeout_s
        if self._books.ssd is None:
            return
        self.flush(timeout_s)
        with self._books.lock:
            self._stopping = True
            self._books.work.notify_all()
        self._thread.join(max(0.0, give_up - time.monotonic()))

    def _run(self) -> None:
        while (slot := self._next()) is not None:
            written = self._write(slot)
            self._finish(slot, written)

    def _next(self) -> Slot | None:
        books = self._books
        with books.lock:
            while not self._stopping:
                if books.unwritten:
                    key, slot = books.unwritten.popitem(last=False)
                    if time.monotonic() >= self._paused_until:
                        slot.borrows += 1
                        self.current = key
                        return slot
                    books.counters.ssd_writes_dropped += 1
                    books.work.notify_all()
                else:
                    books.work.wait()
        return None

    def _write(self, slot: Slot) -> bool:
        """Whether the tier has it now. What goes wrong is counted."""
        books, counters = self._books, self._books.counters
        assert books.ssd is not None
        try:
            self._make_room(file_nbytes(slot.spec))
            books.ssd.put(slot.spec, books.dram.view(slot.extent), slot.crcs)
        except CapacityError:
            with books.lock:
                counters.ssd_writes_dropped += 1
        except CorruptSegmentError as error:
            logger.error("a segment changed in memory after it was published: %s", error)
            with books.lock:
                counters.corrupt += 1
                if slot.published:
                    books.withdraw(slot)
        except TierUnavailableError as error:
            self._pause(error)
        else:
            self._warned = False
            return True
        return False

    def _make_room(self, nbytes: int) -> None:
        """Discard files until `nbytes` more fit. Raises TierUnavailableError; then the rest of them
        goes at the next attempt."""
        books = self._books
        assert books.ssd is not None
        with books.lock:
            missing = nbytes - (books.ssd.capacity_bytes - books.ssd.used_bytes)
            victims = books.ssd_shelf.victims(missing, books.next_use(), ())
            files = [books.detach_file(key, evicted=True) for key in victims]
        self._going += [file for file in files if file is not None]
        while self._going:
            books.ssd.discard(self._going[-1])
            self._going.pop()

    def _finish(self, slot: Slot, written: bool) -> None:
        books, spec = self._books, slot.spec
        assert books.ssd is not None
        unwanted = None
        with books.lock:
            self.current = None
            if written:
                books.counters.ssd_written_bytes += spec.layout.nbytes
            if written and slot.published:
                books.ssd_shelf.add(Entry(spec, file_nbytes(spec), time.time()))
            elif written:  # removed while it was being written
                unwanted = books.ssd.detach(spec.key)
            slot.borrows -= 1
            books.dram.free_if_unused(slot)
            books.work.notify_all()
        if unwanted is not None:
            discard(books, unwanted)

    def _pause(self, error: TierUnavailableError) -> None:
        """Leave a failing disk alone for a while; say so once until it works again."""
        self._paused_until = time.monotonic() + _PAUSE_S
        with self._books.lock:
            self._books.counters.ssd_write_failures += 1
        if not self._warned:
            self._warned = True
            logger.warning("%s: segments are kept in memory alone for now", error)
