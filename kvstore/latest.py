"""A bounded memory of the latest, by digests. An OrderedDict of 65,536 copies all of that when
deletions have used up its places, with the metadata lock held.
"""

from collections import deque
from collections.abc import Collection
from typing import Generic, TypeVar

from kvstore.parts import DigestParts

V = TypeVar("V")


class Latest(Generic[V]):
    """Not thread-safe: the store's metadata lock guards it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: DigestParts[tuple[int, V]] = DigestParts()  # with the number of the insertion
        self._order: deque[tuple[int, bytes]] = deque()
        """Insertions, the oldest first; some digests have gone since, or were put again."""
        self._num = self._num_put = 0

    def __len__(self) -> int:
        return self._num

    def put(self, digest: bytes, value: V) -> None:
        """It is the latest now. The oldest beyond the limit is forgotten."""
        self.pop(digest)
        self._num += 1
        self._num_put += 1
        self._values.put(digest, (self._num_put, value))
        self._order.append((self._num_put, digest))
        while self._num > self._limit or len(self._order) > 2 * self._limit:
            number, oldest = self._order.popleft()
            if (found := self._values.get(oldest)) is not None and found[0] == number:
                self.pop(oldest)

    def pop(self, digest: bytes) -> V | None:
        found = self._values.pop(digest, None)
        if found is None:
            return None
        self._num -= 1
        return found[1]

    def copy(self) -> Collection[tuple[int, V]]:
        """What is there now, each with a number that is larger for what came later: to be looked
        through at leisure, without the lock."""
        return self._values.copy().values()
