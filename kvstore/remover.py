"""Getting what was deleted off a slow tier, on a thread of its own, for as long as it takes."""

import logging
import time
from itertools import chain

from kvstore.books import Books
from kvstore.errors import TierUnavailableError
from kvstore.families import Family
from kvstore.levels import Level
from kvstore.tiers.segment_object import Stored
from kvstore.turns import in_turns
from kvstore.types import SegmentKey, SegmentSpec

logger = logging.getLogger(__name__)

_MAX_NEWS = 256
"""Objects that are looked at with the lock held, in one go."""
_FIRST_PAUSE_S = 0.5
_MAX_PAUSE_S = 60.0
"""Pauses double with each attempt in a row that fails."""


class Remover:
    """Deletes what the tombstones of one tier doom, and lifts them when it is gone for good.

    A medium that fails is asked again after a pause; one that hangs keeps this thread and nobody
    else. The list of deletions has what a restart must not forget meanwhile.
    """

    def __init__(self, books: Books, level: Level) -> None:
        self.level = level
        self._books = books
        self._stopping = False
        self._pause_s = 0.0
        self._again_at = 0.0
        self._thread = books.threads.start(f"kvstore-remove-{level.name}", self._step)

    def begin(self, tags: frozenset[bytes]) -> int:
        """From here until `end` more is told to be out of sight with `hide`. The version of its
        tombstones. Takes the lock, in turns."""
        books, stones = self._books, self.level.tombstones
        with books.lock:
            version = stones.begin()
        in_turns(books.lock, tags, lambda tag: stones.doom(version, tags=(tag,)))
        return version

    def hide(self, version: int, digest: bytes) -> list[SegmentKey]:
        """Out of sight of everybody who asks the tier; what was in sight. Called with the lock
        held."""
        self.level.tombstones.doom(version, digests=(digest,))
        return self._detach(digest)

    def end(self, version: int, family: Family, num_hidden: int) -> bool:
        """All of the family is hidden: it is to go now. False when the tier has nothing of it for
        sure. Called with the lock held."""
        level, tier, stones = self.level, self.level.tier, self.level.tombstones
        stones.end(version)
        is_known = tier.exclusive and not level.recovering  # others may have written to it
        is_clean = is_known and tier.is_clean and level.writing not in family.keys
        if is_clean and not num_hidden and stones.lifted == version - 1:
            stones.lift(version)
            return False
        self._books.work.notify_all()
        return True

    def tidy(self) -> None:
        """Forget the tombstones that were lifted. Takes the lock, in turns."""
        books, stones = self._books, self.level.tombstones
        with books.lock:
            tags, digests = stones.tags(), stones.digests()
        in_turns(books.lock, chain(tags, digests), stones.forget)

    def is_done(self, version: int) -> bool:
        """Whether nothing that was removed in this version is on the tier. Called with the lock
        held."""
        return self.level.tombstones.lifted >= version

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed. Called with the lock held."""
        return self._pause_s > 0

    def stop(self) -> None:
        with self._books.lock:
            self._stopping = True
            self._books.work.notify_all()

    def await_end(self, give_up: float) -> None:
        self._thread.await_end(give_up)

    def _step(self) -> bool:
        """One attempt, as soon as there is something to delete; False at the end."""
        version = self._next()
        if version is None:
            return False
        try:
            self._delete(version)
        except (TierUnavailableError, OSError) as error:
            self._put_off(error)
        except BaseException as error:
            self._put_off(error)
            raise
        else:
            self._pause_s = 0.0
        return True

    def _next(self) -> int | None:
        """Waits; the version up to which everything is out of sight and settled in the books."""
        books, level, stones = self._books, self.level, self.level.tombstones
        with books.lock:
            while not self._stopping:
                is_due = stones.complete > stones.lifted and not level.recovering
                left = self._again_at - time.monotonic()
                if is_due and left <= 0 and not stones.dooms_key(level.writing):
                    return stones.complete
                books.work.wait(left if is_due and left > 0 else None)
        return None

    def _delete(self, version: int) -> None:
        """Raises OSError or TierUnavailableError; what is left goes at the next attempt."""
        books, level, tier = self._books, self.level, self.level.tier
        self._hide_shelved()
        for stored in self._left():
            tier.discard(stored)
        if tier.exclusive:
            tier.purge.unread()  # it may be one that has to go, and is no use
        else:
            tier.purge.sweep(self._dooms)
        tier.purge.aside(self._dooms)
        tier.settle()
        num_looked_at = tier.num_departures
        if self._left():
            return
        if books.deletions is not None:
            books.deletions.end(level.name, version)
        with books.lock:
            if not self._has_news(num_looked_at):
                level.tombstones.lift(version)
                books.removed.notify_all()
        self.tidy()

    def _has_news(self, num_looked_at: int) -> bool:
        """Whether something doomed may have begun to leave since. Called with the lock held."""
        tier, stones = self.level.tier, self.level.tombstones
        if tier.num_departures - num_looked_at > _MAX_NEWS:
            return True
        return any(stones.dooms(s.entry.spec) for s in tier.leaving(after=num_looked_at))

    def _dooms(self, spec: SegmentSpec) -> bool:
        with self._books.lock:
            return self.level.tombstones.dooms(spec)

    def _left(self) -> list[Stored]:
        """What came to be known as doomed, and is not off the medium."""
        left, tombstones = list[Stored](), self.level.tombstones

        def look(stored: Stored) -> None:
            if tombstones.dooms(stored.entry.spec):
                left.append(stored)

        in_turns(self._books.lock, self.level.tier.leaving(), look)
        return left

    def _hide_shelved(self) -> None:
        """What the tier took in before it was known to be doomed: a child that was listed before
        its parent."""
        books, level, stones = self._books, self.level, self.level.tombstones
        with books.lock:
            tags, digests = stones.tags(), stones.digests()
        family = Family(tags, digests)

        def take(digest: bytes) -> None:
            specs = [level.spec(key) for shelf in level.shelves if (key := shelf.key_of(digest))]
            if any(spec is not None and stones.dooms(spec) for spec in specs):
                self._detach(digest)

        in_turns(books.lock, family.walk(level.shelves, take), bool)

    def _detach(self, digest: bytes) -> list[SegmentKey]:
        keys = [key for shelf in self.level.shelves if (key := shelf.key_of(digest))]
        return [key for key in keys if self.level.detach(key)]

    def _put_off(self, error: BaseException) -> None:
        if not self._pause_s:
            logger.warning("%s: a deletion is not made yet: %s", self.level.name, error)
        with self._books.lock:
            self._pause_s = min(_MAX_PAUSE_S, max(_FIRST_PAUSE_S, 2 * self._pause_s))
            self._again_at = time.monotonic() + self._pause_s
            self.level.write_failures += 1
            self._books.removed.notify_all()
