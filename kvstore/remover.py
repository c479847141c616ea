"""Getting what was deleted off a slow tier, on a thread of its own, for as long as it takes."""

import logging
import time
from collections.abc import Collection

from kvstore.books import Books
from kvstore.errors import TierUnavailableError
from kvstore.levels import Level
from kvstore.tiers.segment_object import Stored
from kvstore.types import SegmentKey, SegmentSpec

logger = logging.getLogger(__name__)

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

    def begin(self, tags: Collection[bytes], family: Collection[SegmentKey]) -> int:
        """Out of sight of everybody who asks the tier; the version of the tombstones that is to be
        lifted, 0 when the tier has nothing of it for sure. Called with the lock held."""
        level = self.level
        gone = [stored for key in family if (stored := level.detach(key))]
        tier = level.tier
        is_known = tier.exclusive and not level.recovering  # others may have written to it
        is_clean = is_known and tier.is_clean and level.writing not in family
        if is_clean and not gone and not level.tombstones:
            return 0
        version = level.tombstones.add(tags, family)
        self._books.work.notify_all()
        return version

    def is_done(self, version: int) -> bool:
        """Whether nothing that was removed in this version is on the tier. Called with the lock
        held."""
        return self.level.tombstones.lifted >= version

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed. Called with the lock held."""
        return self._pause_s > 0

    def close(self, timeout_s: float) -> None:
        with self._books.lock:
            self._stopping = True
            self._books.work.notify_all()
        self._thread.join(timeout_s)

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
        books, level = self._books, self.level
        with books.lock:
            while not self._stopping:
                is_due = bool(level.tombstones) and not level.recovering
                left = self._again_at - time.monotonic()
                if is_due and left <= 0 and not level.tombstones.dooms_key(level.writing):
                    return level.tombstones.version
                books.work.wait(left if is_due and left > 0 else None)
        return None

    def _delete(self, version: int) -> None:
        """Raises OSError or TierUnavailableError; what is left goes at the next attempt."""
        books, level, tier = self._books, self.level, self.level.tier
        with books.lock:
            for spec in self._shelved():
                level.detach(spec.key)
            doomed = self._left()
        for stored in doomed:
            tier.discard(stored)
        if tier.exclusive:
            tier.discard_unread()  # it may be one that has to go, and is no use
        else:
            tier.sweep(self._dooms)
        tier.settle()
        with books.lock:
            if self._left():
                return
        if books.deletions is not None:
            books.deletions.end(level.name, version)
        with books.lock:
            if not self._left():
                level.tombstones.lift(version)
                books.removed.notify_all()

    def _dooms(self, spec: SegmentSpec) -> bool:
        with self._books.lock:
            return self.level.tombstones.dooms(spec)

    def _left(self) -> list[Stored]:
        """What came to be known as doomed, and is not off the medium."""
        tombstones = self.level.tombstones
        return [s for s in self.level.tier.leaving() if tombstones.dooms(s.entry.spec)]

    def _shelved(self) -> list[SegmentSpec]:
        """What the tier took in before it was known to be doomed: a child that was listed before
        its parent."""
        shelves, tombstones = self.level.shelves, self.level.tombstones
        todo = [spec for tag in tombstones.tags() for s in shelves for spec in s.tagged(tag)]
        todo += [spec for d in tombstones.digests() for s in shelves for spec in s.children(d)]
        found: dict[SegmentKey, SegmentSpec] = {}
        while todo:
            spec = todo.pop()
            if spec.key not in found and tombstones.dooms(spec):
                found[spec.key] = spec
                todo += [child for s in shelves for child in s.children(spec.key.digest)]
        return list(found.values())

    def _put_off(self, error: BaseException) -> None:
        if not self._pause_s:
            logger.warning("%s: a deletion is not made yet: %s", self.level.name, error)
        with self._books.lock:
            self._pause_s = min(_MAX_PAUSE_S, max(_FIRST_PAUSE_S, 2 * self._pause_s))
            self._again_at = time.monotonic() + self._pause_s
            self.level.write_failures += 1
            self._books.removed.notify_all()
