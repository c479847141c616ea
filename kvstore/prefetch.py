"""Queue-driven prefetch (PCR, ALGORITHMS 4.2): what queued requests need and only a slow
tier has is read into DRAM before they are served."""

from itertools import chain

from kvstore.books import Books
from kvstore.loads import Loads
from kvstore.supervised import SupervisedThread
from kvstore.types import SegmentKey

_IN_FLIGHT = 1
"""Reads ahead at a time: those that somebody waits for find a thread, and the disk, free."""


class Prefetcher:
    """One thread that starts reads in order of need; reading is the loader's.

    A read ahead never evicts what is needed sooner, joins reads in flight, and is skipped when its
    request is retired before it begins.
    """

    def __init__(self, books: Books, loads: Loads, on: bool) -> None:
        self._books, self._loads = books, loads
        self._tried: set[SegmentKey] = set()
        """Read ahead once for those who wait now: neither a failing disk nor a full arena makes it
        go round."""
        self._thread: SupervisedThread | None = None
        if on and books.levels and books.lookahead_requests > 0:
            self._thread = books.threads.start("kvstore-prefetch", self._step)

    def stop(self) -> None:
        """`books.closed` is set: the thread ends by that."""

    def await_end(self, give_up: float) -> None:
        if self._thread is not None:
            self._thread.await_end(give_up)

    def _step(self) -> bool:
        """Begin one read, or wait for news of the queue."""
        books = self._books
        with books.lock:
            if not books.closed and (self._loads.num_ahead >= _IN_FLIGHT or not self._start_next()):
                books.queue_changed.wait()
            return not books.closed

    def _start_next(self) -> bool:
        """Begin the most urgent read; False when there is none, or no room for it."""
        books, missing = self._books, set[bytes]()
        requests = books.window.upcoming(books.lookahead_requests)
        self._tried.intersection_update(chain.from_iterable(requests))
        for rank, keys in enumerate(requests):
            for key in keys:
                if books.dram.contains(key) or self._loads.is_flying(key):
                    continue
                level = books.stored_in(key)
                spec = level.spec(key) if level and not level.slow else None
                if level and spec and level.tombstones.dooms(spec):
                    spec = None
                if spec and not books.dram.may_reserve(spec):
                    spec = None  # others' reads go on
                if spec is None or spec.parent in missing or key in self._tried:
                    missing.add(key.digest)  # what follows cannot be matched before it is there
                    continue
                self._tried.add(key)
                extent = books.reserve(spec, rank)
                if extent is None:
                    self._tried.remove(key)
                    return False
                try:
                    self._loads.read_ahead(spec, extent)
                except BaseException:
                    if books.dram.is_reserved(extent):
                        books.dram.abort(extent)
                    raise
                return True
        return False
