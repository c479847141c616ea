"""Bytes in DRAM that change by themselves: found by a thread that verifies all of it, slowly."""

import logging
import threading
from collections.abc import Iterator

from kvstore.books import Books
from kvstore.checksum import verify_segment
from kvstore.errors import CorruptSegmentError
from kvstore.supervised import SupervisedThread
from kvstore.tiers.dram import Slot

logger = logging.getLogger(__name__)

_IDLE_S = 1.0


def damage_of(books: Books, slot: Slot) -> CorruptSegmentError | None:
    """What is wrong with the bytes of a slot, which the caller holds; without the lock."""
    try:
        verify_segment(slot.spec, books.dram.view(slot.extent), slot.crcs)
    except CorruptSegmentError as error:
        return error
    return None


class Scrubber:
    """Segment after segment, at most `bytes_per_s` on average; 0 keeps it off."""

    def __init__(self, books: Books, bytes_per_s: float) -> None:
        self._books = books
        self._bytes_per_s = bytes_per_s
        self._stop = threading.Event()
        self._round: Iterator[Slot] = iter(())
        self._thread: SupervisedThread | None = None
        if bytes_per_s:
            self._thread = books.threads.start("kvstore-scrub", self._step)

    def stop(self) -> None:
        self._stop.set()

    def await_end(self, give_up: float) -> None:
        if self._thread is not None:
            self._thread.await_end(give_up)

    def _step(self) -> bool:
        """One segment of a round, after the time that it may take."""
        slot = next(self._round, None)
        if slot is None:
            if self._stop.wait(_IDLE_S):
                return False
            with self._books.lock:
                self._round = iter(self._books.dram.slots())
        elif self._stop.wait(slot.spec.layout.nbytes / self._bytes_per_s):
            return False
        else:
            self._scrub(slot)
        return True

    def _scrub(self, slot: Slot) -> None:
        books = self._books
        with books.lock:
            if books.closed or not slot.published:
                return
            books.dram.borrow(slot)
        damage = None
        try:
            damage = damage_of(books, slot)
        finally:
            with books.lock:
                if damage is not None:
                    books.condemn(slot)
                books.dram.give_back(slot)
        if damage is not None:
            logger.error("a segment changed in memory after it was published: %s", damage)
