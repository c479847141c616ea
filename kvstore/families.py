"""Passages and all that was computed after them, found among segments that come and go.

What follows a passage is found by its parent, and where a segment between them is not stored, or
the passage itself, by the marks of the passages that it follows.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator

from kvstore.parts import DigestParts, Parts
from kvstore.shelf import Shelf
from kvstore.types import MARK_NBYTES, SegmentKey, SegmentSpec


class Family:
    """A family grows while it is looked through: what is new belongs to it if its parent does.

    Not thread-safe: the store's metadata lock guards it.
    """

    def __init__(self, tags: Collection[bytes], digests: Iterable[bytes] = ()) -> None:
        """`digests` are of segments whose followers belong to it, and that need not be here."""
        self.tags = frozenset(tags)
        self._marks = frozenset(tag[:MARK_NBYTES] for tag in tags)
        self.keys: Parts[SegmentKey, None] = Parts()
        """Those of its segments that are known."""
        self._todo = deque(digests)
        self._digests: DigestParts[None] = DigestParts((digest, None) for digest in self._todo)

    @property
    def is_walked(self) -> bool:
        """Whether everything that is known of it was taken, and what follows it found."""
        return not self._todo

    def has(self, spec: SegmentSpec) -> bool:
        """Whether a segment belongs to it. What does is remembered."""
        digest = spec.key.digest
        if self._digests.has(digest):
            return True
        if (
            spec.tag not in self.tags
            and not self._digests.has(spec.parent)
            and self._marks.isdisjoint(spec.marks)
        ):
            return False
        self.add(spec.key)
        return True

    def add(self, key: SegmentKey) -> None:
        """It belongs to the family, and all that follows it does."""
        self.keys.put(key, None)
        if not self._digests.has(key.digest):
            self._digests.put(key.digest, None)
            self._todo.append(key.digest)

    def walk(self, shelves: Collection[Shelf], take: Callable[[bytes], object]) -> Iterator[None]:
        """Take every segment of it by its digest, parents before their children, so that nothing
        new can follow what was looked at. A step is one segment; each needs the lock, and others
        may have it in between."""
        for tag in self.tags:
            yield
            for shelf in shelves:
                for key in shelf.tagged(tag):
                    self.add(key)
                    yield
        yield from self._descend(shelves, take)
        for shelf in shelves:
            for digest in shelf.gaps():
                yield
                for key in shelf.children(digest):
                    if (spec := shelf.spec(key)) is not None:
                        self.has(spec)
                    yield
        yield from self._descend(shelves, take)

    def _descend(
        self, shelves: Collection[Shelf], take: Callable[[bytes], object]
    ) -> Iterator[None]:
        while self._todo:
            digest = self._todo.popleft()
            take(digest)
            yield
            for shelf in shelves:
                for key in shelf.children(digest):
                    self.add(key)
                    yield
