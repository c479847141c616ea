"""A medium that fails costs its callers no more than a few waits, each of them bounded."""

import errno
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

from kvstore.codec import Label
from kvstore.tiers.breaker import Breaker
from kvstore.tiers.deadline import AbandonedError, Deadline
from kvstore.tiers.medium import Listed, Medium, Source, Written
from kvstore.types import SegmentKey

T = TypeVar("T")
_THREADS = 8
_LISTINGS = 2
_PIECE_BYTES = 4 * 2**20
"""Of a write has the time of a call: a large one on a slow link does not hang."""
_PAGE = 512  # objects that a listing hands over at once


class Guarded(Medium):
    """A medium behind a breaker and, when its client library may hang, a deadline for each call.

    A call that hangs is given up, not stopped: it goes on in its thread. So under a deadline a
    write copies its payload and a read goes through a buffer of its own, lest a late one uses
    memory that its caller has back: one copy each. A write that was given up may still appear.
    """

    def __init__(
        self,
        medium: Medium,
        failures: int,
        pause_s: float,
        deadline_s: float | None,
        clock: Callable[[], float] = time.monotonic,
        listing_s: float | None = None,
    ) -> None:
        """`listing_s` bounds a step of a listing, where one takes longer than any other call."""
        self.tier, self.exclusive = medium.tier, medium.exclusive
        self._medium = medium
        self._breaker = Breaker(failures, pause_s, clock)
        self._deadline = None if deadline_s is None else Deadline(deadline_s, _THREADS)
        self._listing = self._deadline
        if listing_s is not None:
            self._listing = Deadline(listing_s, _LISTINGS)
        self._page_s = math.inf if deadline_s is None else deadline_s / 4

    @property
    def is_open(self) -> bool:
        """Whether the medium is left alone; from the failure until a trial has succeeded."""
        return self._breaker.is_open

    @property
    def open_for_s(self) -> float:
        """Seconds until the next trial; 0 when a call may pass."""
        return self._breaker.open_for_s

    def takes(self, label: Label) -> bool:
        return self._medium.takes(label)

    def write(self, key: SegmentKey, header: bytes, payload: memoryview) -> Written:
        with self._breaker.call():
            if self._deadline is None:
                return self._medium.write(key, header, payload)
            copy = memoryview(bytes(payload))
            pieces = max(1, math.ceil(copy.nbytes / _PIECE_BYTES))
            return self._deadline.run(lambda: self._medium.write(key, header, copy), pieces=pieces)

    def open(self, name: str) -> Source:
        with self._breaker.call():
            if self._deadline is None:
                return _GuardedSource(self._medium.open(name), self._breaker)
            source = self._deadline.run(lambda: self._medium.open(name), _close)
            return _TimedSource(source, self._breaker, self._deadline)

    def find(self, key: SegmentKey) -> Listed | None:
        return self._call(lambda: self._medium.find(key))

    def list(self) -> Iterator[Listed]:
        """In pages, each a call: of so many objects or of a quarter of the deadline."""
        listed = self._medium.list()
        while page := self._step(lambda: _page(listed, self._page_s)):
            yield from page

    def settle(self) -> None:
        self._call(self._medium.settle)

    @property
    def settled(self) -> bool:
        return self._medium.settled

    def strays(self) -> Iterator[str]:
        return iter(self._call(lambda: list(self._medium.strays())))

    def delete(self, name: str) -> None:
        self._call(lambda: self._medium.delete(name))

    def set_aside(self, name: str) -> None:
        self._call(lambda: self._medium.set_aside(name))

    def aside(self) -> Iterator[Listed]:
        return iter(self._call(lambda: list(self._medium.aside())))

    def delete_aside(self, name: str) -> None:
        self._call(lambda: self._medium.delete_aside(name))

    @property
    def aside_bytes(self) -> int:
        return self._medium.aside_bytes

    def close(self) -> None:
        """Whether the breaker is open or not; what hangs is given up."""
        if self._deadline is None:
            return self._medium.close()
        with suppress(OSError):
            self._deadline.run(self._medium.close)

    def _step(self, call: Callable[[], T]) -> T:
        """Of a listing."""
        with self._breaker.call():
            return call() if self._listing is None else self._listing.run(call)

    def _call(self, call: Callable[[], T]) -> T:
        with self._breaker.call():
            return call() if self._deadline is None else self._deadline.run(call)


class _GuardedSource(Source):
    def __init__(self, source: Source, breaker: Breaker) -> None:
        self.nbytes = source.nbytes
        self._source, self._breaker = source, breaker

    def read(self, into: memoryview, offset: int) -> int:
        with self._breaker.call():
            return self._source.read(into, offset)

    def close(self) -> None:
        self._source.close()


class _TimedSource(Source):
    """For one thread, since its reads share the buffer. After an abandoned one it is lost."""

    def __init__(self, source: Source, breaker: Breaker, deadline: Deadline) -> None:
        self.nbytes = source.nbytes
        self._source, self._breaker, self._deadline = source, breaker, deadline
        self._buffer = bytearray()
        self._lost = False

    def read(self, into: memoryview, offset: int) -> int:
        if self._lost:
            raise OSError(errno.EIO, "an earlier read was given up")
        if len(self._buffer) < into.nbytes:
            self._buffer = bytearray(into.nbytes)
        buffer = memoryview(self._buffer)[: into.nbytes]
        with self._breaker.call():
            try:
                done = self._deadline.run(
                    lambda: self._source.read(buffer, offset), lambda _: self._source.close()
                )
            except AbandonedError:
                self._lost = True
                raise
        into[:done] = buffer[:done]
        return done

    def close(self) -> None:
        """A read that still hangs closes it when it ends; a hanging close is given up."""
        if not self._lost:
            with suppress(OSError):
                self._deadline.run(self._source.close)


def _close(source: Source | None) -> None:
    if source is not None:
        source.close()


def _page(listed: Iterator[Listed], seconds: float) -> list[Listed]:
    end, page = time.monotonic() + seconds, []
    for each in listed:
        page.append(each)
        if len(page) == _PAGE or time.monotonic() > end:
            break
    return page
