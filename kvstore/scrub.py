"""Bytes in DRAM that change by themselves: found by a thread that verifies all of it, slowly."""

import logging
import threading

from kvstore.books import Books
from kvstore.checksum import verify_segment
from kvstore.errors import CorruptSegmentError
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
        self._thread = threading.Thread(target=self._run, name="kvstore-scrub", daemon=True)
        if bytes_per_s:
            self._thread.start()

    def close(self, timeout_s: float) -> None:
        self._stop.set()
        if self._bytes_per_s:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        books = self._books
        while not self._stop.wait(_IDLE_S):
            with books.lock:
                slots = [] if books.closed else books.dram.slots()
            for slot in slots:
                if self._stop.wait(slot.spec.layout.nbytes / self._bytes_per_s):
                    return
                self._scrub(slot)

    def _scrub(self, slot: Slot) -> None:
        books = self._books
        with books.lock:
            if books.closed or not slot.published:
                return
            slot.borrows += 1
        damage = damage_of(books, slot)
        with books.lock:
            slot.borrows -= 1
            if damage is not None:
                books.condemn(slot)
            books.dram.free_if_unused(slot)
        if damage is not None:
            logger.error("a segment changed in memory after it was published: %s", damage)
