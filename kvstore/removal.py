"""Deleting passages: their segments, and all that was computed after them, in every tier."""

import errno
import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from kvstore.books import Books
from kvstore.deletion_records import Deletion
from kvstore.errors import RemovalError
from kvstore.families import Family
from kvstore.load import Load
from kvstore.loads import Loads
from kvstore.remover import Remover
from kvstore.singleflight import OpenTicket
from kvstore.tiers.deadline import Deadline
from kvstore.turns import in_turns
from kvstore.types import SegmentKey

T = TypeVar("T")


@dataclass(slots=True)
class _Begun:
    """A removal that is under way in one tier."""

    remover: Remover
    version: int
    num_hidden: int = 0

    @property
    def is_done(self) -> bool:
        """Called with the lock held."""
        return self.remover.is_done(self.version)

    @property
    def has_failed(self) -> bool:
        """The tier does not take it now. Called with the lock held."""
        return not self.is_done and self.remover.is_failing

    def hide(self, digest: bytes) -> list[SegmentKey]:
        hidden = self.remover.hide(self.version, digest)
        self.num_hidden += len(hidden)
        return hidden


class Removal:
    """Thread-safe. A tier that hangs or fails does not hold up who removes: after half of the
    deadline the deletion is noted durably, and made by the tier's `Remover` when it can be."""

    def __init__(self, books: Books, loads: Loads, timeout_s: float) -> None:
        self._books = books
        self._loads = loads
        self._timeout_s = timeout_s
        self._removers = [Remover(books, level) for level in books.levels]
        self._noting = Deadline(timeout_s / 2, threads=1)

    def remove_tags(self, tags: Collection[bytes], removal: bytes) -> int:
        """Out of sight when this returns, and off the slow tiers for good, or durably noted: then
        no restart brings it back. Bytes in DRAM go when the last pin does.

        Computations and reads under way end normally for their callers; their results are not
        published. Returns the number of segments that were stored. Raises RemovalError when a
        tier did neither in time: then all is out of sight for as long as the store runs, and it
        goes on trying.
        """
        books, give_up = self._books, time.monotonic() + self._timeout_s
        family = Family(tags)
        in_turns(books.lock, family.tags, lambda tag: books.recent.add(removal, tag))
        with books.lock:
            books.require_open()
            books.removing.append(family)
            books.num_removal_events += 1
        begun: list[_Begun] = []
        try:
            for remover in self._removers:
                begun.append(_Begun(remover, remover.begin(family.tags)))
            num_stored = self._take_out(family, begun)
        finally:
            with books.lock:
                books.removing.remove(family)
                books.num_removal_events += 1
                begun = [b for b in begun if b.remover.end(b.version, family, b.num_hidden)]
        with books.lock:
            books.require_open()
            books.recent.made(removal)
            open_ = self._wait(begun, self._timeout_s / 2, books.deletions is not None)
        if open_:
            self._note(open_, family, give_up)
        return num_stored

    def stop(self) -> None:
        for remover in self._removers:
            remover.stop()

    def await_end(self, give_up: float) -> None:
        for remover in self._removers:
            remover.await_end(give_up)

    def _take_out(self, family: Family, begun: Sequence[_Begun]) -> int:
        """All of the family out of sight, in turns: it is complete when neither a segment nor what
        is under way adds to it. How many of it were stored anywhere."""
        books, found = self._books, list[SegmentKey]()
        shelves = [books.dram_shelf, *(shelf for level in books.levels for shelf in level.shelves)]

        def take(digest: bytes) -> None:
            books.require_open()
            key = books.dram_shelf.key_of(digest)
            if key is not None and (slot := books.dram.find(key)):
                books.withdraw(slot)
                found.append(key)
            for one in begun:
                found.extend(one.hide(digest))

        is_complete = False
        while not is_complete:
            in_turns(books.lock, family.walk(shelves, take), bool)
            is_complete = not self._doom_moving(family) and family.is_walked
        return len(set(found))

    def _doom_moving(self, family: Family) -> bool:
        """What is under way and belongs to the family will not be published. Whether there was
        any that was not known to belong to it."""
        books = self._books
        with books.lock:
            moving: list[OpenTicket | Load] = [*books.claims.unfinished(), *self._loads]
        num_known, todo = len(family.keys), deque(moving)
        behind: dict[bytes, list[OpenTicket | Load]] = defaultdict(list)
        for one in moving:
            behind[one.spec.parent].append(one)

        def doom(one: OpenTicket | Load) -> None:
            if family.has(one.spec):
                one.doomed = True
                todo.extend(behind.pop(one.spec.key.digest, ()))

        in_turns(books.lock, _drained(todo), doom)
        return len(family.keys) > num_known

    def _wait(self, begun: Sequence[_Begun], timeout_s: float, may_note: bool) -> list[_Begun]:
        """Those that are not done in time. A tier that fails, or is still being listed, is not
        waited for where a note will do. Called with the lock held."""
        books = self._books
        awaited = [b for b in begun if not (may_note and b.remover.level.recovering)]
        books.removed.wait_for(
            lambda: books.closed or all(b.is_done or (may_note and b.has_failed) for b in awaited),
            max(0.0, timeout_s),
        )
        return [b for b in begun if not b.is_done]

    def _note(self, open_: Sequence[_Begun], family: Family, give_up: float) -> None:
        """Raises RemovalError where that fails and the tiers are not done meanwhile."""
        books = self._books
        tags, keys = tuple(family.tags), tuple(family.keys)
        notes = [Deletion(b.remover.level.name, b.version, tags, keys) for b in open_]
        failure: OSError = OSError(errno.ENXIO, "there is no store.ssd_dir to note it in")
        if (deletions := books.deletions) is not None:
            try:
                return self._noting.run(lambda: deletions.record(notes))
            except OSError as error:
                failure = error
        with books.lock:
            late = self._wait(open_, give_up - time.monotonic(), may_note=False)
        if late:
            where = ", ".join(b.remover.level.name for b in late)
            raise RemovalError(where, str(failure)) from failure


def _drained(items: deque[T]) -> Iterator[T]:
    while items:
        yield items.popleft()
