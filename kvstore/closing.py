"""The end of a store, all of it within one deadline."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from kvstore.books import Books
from kvstore.tiers.deadline import Deadline

_WRITING_SHARE = 0.75
"""Of the time: for what is queued to be written. What hangs there leaves the rest to the others."""
_LAST_S = 0.5
"""For the tiers to give their folders back, when what hung took all of the time."""


class Worker(Protocol):
    """Threads of a store."""

    def stop(self) -> None:
        """They end after what they do now. Waits for nothing."""

    def await_end(self, give_up: float) -> None:
        """Until the monotonic time `give_up`: what hangs is left behind."""


class Writer(Worker, Protocol):
    def drain(self, give_up: float) -> None:
        """Until what is queued is written; called before `stop`."""


def close(
    books: Books, writers: Sequence[Writer], workers: Sequence[Worker], timeout_s: float
) -> None:
    """All are told to stop before any of them is waited for: one that hangs takes time from
    nobody."""
    begin = time.monotonic()
    give_up, written_by = begin + timeout_s, begin + _WRITING_SHARE * timeout_s
    for writer in writers:
        writer.drain(written_by)
    for writer in writers:
        writer.stop()
    for writer in writers:
        writer.await_end(written_by)
    with books.lock:
        books.closed = True
        for waiting in (books.changed, books.queue_changed, books.removed):
            waiting.notify_all()
    for worker in workers:
        worker.stop()
    for worker in [*workers, *writers]:
        worker.await_end(give_up)
    with books.lock:
        books.holders.close()
        books.dram.close()
    _close_tiers(books, max(give_up - time.monotonic(), _LAST_S))


def _close_tiers(books: Books, timeout_s: float) -> None:
    give_up = time.monotonic() + timeout_s
    for level in books.levels:
        left = max(give_up - time.monotonic(), 0.1)
        with suppress(OSError):  # it hangs
            Deadline(left, threads=1).run(level.tier.close)
