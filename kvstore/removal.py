"""Deleting passages: their segments, and all that was computed after them, in every tier."""

import errno
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from kvstore.books import Books
from kvstore.deletions import Deletion
from kvstore.errors import RemovalError
from kvstore.loads import Loads
from kvstore.remover import Remover
from kvstore.tiers.deadline import Deadline
from kvstore.turns import in_turns
from kvstore.types import SegmentKey, SegmentSpec

_TAGS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class _Begun:
    """A removal that is under way in one tier."""

    remover: Remover
    version: int

    @property
    def is_done(self) -> bool:
        """Called with the lock held."""
        return self.remover.is_done(self.version)

    @property
    def has_failed(self) -> bool:
        """The tier does not take it now. Called with the lock held."""
        return not self.is_done and self.remover.is_failing


class Removal:
    """Thread-safe. A tier that hangs or fails does not hold up who removes: after half of the
    deadline the deletion is noted durably, and made by the tier's `Remover` when it can be."""

    def __init__(self, books: Books, loads: Loads, timeout_s: float) -> None:
        self._books = books
        self._loads = loads
        self._timeout_s = timeout_s
        self._removers = [Remover(books, level) for level in books.levels]
        self._noting = Deadline(timeout_s / 2, threads=1)

    def remove_tags(self, tags: Collection[bytes]) -> int:
        """Out of sight when this returns, and off the slow tiers for good, or durably noted: then
        no restart brings it back. Bytes in DRAM go when the last pin does.

        Computations and reads under way end normally for their callers; their results are not
        published. Returns the number of segments that were stored. Raises RemovalError when a
        tier did neither in time: then all is out of sight for as long as the store runs, and it
        goes on trying.
        """
        books, give_up = self._books, time.monotonic() + self._timeout_s
        tags, family = frozenset(tags), set[SegmentKey]()
        versions: dict[Remover, int] = {}
        num_stored = 0

        def begin(some: frozenset[bytes]) -> None:
            nonlocal num_stored
            books.require_open()
            keys, num = self._take_out(some)
            num_stored += num
            family.update(keys)
            versions.update({r: v for r in self._removers if (v := r.begin(some, keys))})

        in_turns(books.lock, _portions(tags), begin)
        with books.lock:
            books.require_open()
            begun = [_Begun(remover, version) for remover, version in versions.items()]
            open_ = self._wait(begun, self._timeout_s / 2, books.deletions is not None)
        if open_:
            self._note(open_, tags, family, give_up)
        return num_stored

    def close(self, timeout_s: float) -> None:
        for remover in self._removers:
            remover.close(timeout_s / len(self._removers))

    def _take_out(self, tags: Collection[bytes]) -> tuple[set[SegmentKey], int]:
        """The family of these passages, out of DRAM; and how many of it were stored anywhere."""
        books = self._books
        family = _family(books, self._loads, tags)
        for ticket in books.claims.unfinished():
            ticket.doomed = ticket.doomed or ticket.spec.key in family
        for load in self._loads:
            load.doomed = load.doomed or load.spec.key in family
        found = [k for k in family if books.dram.contains(k) or books.stored_in(k)]
        for key in found:
            if slot := books.dram.find(key):
                books.withdraw(slot)
        return family, len(found)

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

    def _note(
        self,
        open_: Sequence[_Begun],
        tags: Collection[bytes],
        family: Collection[SegmentKey],
        give_up: float,
    ) -> None:
        """Raises RemovalError where that fails and the tiers are not done meanwhile."""
        books = self._books
        notes = [
            Deletion(b.remover.level.name, b.version, tuple(tags), tuple(family)) for b in open_
        ]
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


def _portions(tags: Collection[bytes]) -> Iterator[frozenset[bytes]]:
    """A few at a time: each is taken out of memory and hidden in the tiers in one hold of the
    lock, so that no read brings back what is gone."""
    rest = iter(tags)
    while some := frozenset(islice(rest, _TAGS_AT_ONCE)):
        yield some


def _family(books: Books, loads: Loads, tags: Collection[bytes]) -> set[SegmentKey]:
    """Everything stored or under way that is one of these passages or follows one."""
    moving = [t.spec for t in books.claims.unfinished()] + [load.spec for load in loads]
    moving_children: dict[bytes, list[SegmentSpec]] = defaultdict(list)
    for spec in moving:
        moving_children[spec.parent].append(spec)
    shelves = [books.dram_shelf, *(shelf for level in books.levels for shelf in level.shelves)]
    todo = [spec for tag in tags for shelf in shelves for spec in shelf.tagged(tag)]
    todo += [spec for spec in moving if spec.tag in tags]
    family: set[SegmentKey] = set()
    while todo:
        spec = todo.pop()
        if spec.key not in family:
            family.add(spec.key)
            todo += moving_children.get(spec.key.digest, [])
            todo += [child for shelf in shelves for child in shelf.children(spec.key.digest)]
    return family
