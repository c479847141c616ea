"""A dict in parts, for what grows with the number of segments that a store has.

A dict copies all its entries when it grows, and when deletions have used up its free places. At
350,000 entries that takes 10 ms, and a dozen dicts of a shard reach that number at one insertion,
with the metadata lock held. In parts, an insertion copies one part of each.

A copy shares the parts; whoever changes a part that is shared copies it first. So a picture of
everything at one moment takes microseconds, and is looked through without the lock.
"""

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Generic, Self, TypeVar, overload

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

NUM_PARTS = 256
"""As many as a byte has values."""
_ALL = frozenset(range(NUM_PARTS))


class Parts(Collection[K], Generic[K, V]):
    """Has no order, and its length is counted anew each time. Not thread-safe: the lock of its
    owner guards it, and `copy` too. What was copied may be read without that lock."""

    __slots__ = ("_parts", "_shared")

    def __init__(self, items: Iterable[tuple[K, V]] = ()) -> None:
        self._parts: list[dict[K, V]] = [{} for _ in range(NUM_PARTS)]
        self._shared: set[int] = set()
        """Parts that a copy has too."""
        for key, value in items:
            self.put(key, value)

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __bool__(self) -> bool:
        return any(self._parts)

    def __iter__(self) -> Iterator[K]:
        return chain.from_iterable(self._parts)

    def __contains__(self, key: object) -> bool:
        return key in self._parts[self._at(key)]

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: V | T) -> V | T: ...
    def get(self, key: K, default: V | T | None = None) -> V | T | None:
        return self._parts[self._at(key)].get(key, default)

    def put(self, key: K, value: V) -> None:
        at = self._at(key)
        if self._shared:
            self._own(at)
        self._parts[at][key] = value

    @overload
    def pop(self, key: K, /) -> V: ...
    @overload
    def pop(self, key: K, default: V | T, /) -> V | T: ...
    def pop(self, key: K, /, *default: object) -> object:
        """Raises KeyError where there is no default."""
        at = self._at(key)
        if self._shared:
            self._own(at)
        return self._parts[at].pop(key, *default)

    def values(self) -> "Values[V]":
        return Values(self._parts)

    def items(self) -> Iterator[tuple[K, V]]:
        return chain.from_iterable(part.items() for part in self._parts)

    def copy(self) -> Self:
        """As it is now, whatever becomes of this one."""
        twin = self.__class__.__new__(self.__class__)
        twin._parts = self._parts.copy()
        self._shared, twin._shared = set(_ALL), set(_ALL)
        return twin

    @property
    def largest(self) -> int:
        """How many entries the largest part has: no insertion copies more."""
        return max(map(len, self._parts))

    def _at(self, key: object) -> int:
        return hash(key) % NUM_PARTS

    def _own(self, at: int) -> None:
        """This part is about to change."""
        if at in self._shared:
            self._parts[at] = self._parts[at].copy()
            self._shared.remove(at)


class Values(Collection[V]):
    """Of dicts that together are one. It is no copy."""

    __slots__ = ("_dicts",)

    def __init__(self, dicts: Sequence[Mapping[Any, V]]) -> None:
        self._dicts = dicts

    def __len__(self) -> int:
        return sum(map(len, self._dicts))

    def __iter__(self) -> Iterator[V]:
        return chain.from_iterable(part.values() for part in self._dicts)

    def __contains__(self, value: object) -> bool:
        return any(value in part.values() for part in self._dicts)


class DigestParts(Parts[bytes, V]):
    """By digests, tags and other bytes of which the last one takes all values alike. As `Parts`,
    and twice as fast: every request asks several of them for each segment."""

    __slots__ = ()

    def has(self, key: bytes) -> bool:
        return key in self._parts[key[-1]]

    @overload
    def get(self, key: bytes) -> V | None: ...
    @overload
    def get(self, key: bytes, default: V | T) -> V | T: ...
    def get(self, key: bytes, default: V | T | None = None) -> V | T | None:
        return self._parts[key[-1]].get(key, default)

    def put(self, key: bytes, value: V) -> None:
        if self._shared:
            self._own(key[-1])
        self._parts[key[-1]][key] = value

    @overload
    def pop(self, key: bytes, /) -> V: ...
    @overload
    def pop(self, key: bytes, default: V | T, /) -> V | T: ...
    def pop(self, key: bytes, /, *default: object) -> object:
        if self._shared:
            self._own(key[-1])
        return self._parts[key[-1]].pop(key, *default)

    def _at(self, key: object) -> int:
        assert isinstance(key, bytes), f"{key!r} is no digest"
        return key[-1]
