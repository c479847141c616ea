"""Sets of keys by name: the children of each parent, the segments of each tag.

Most have one key or a few; the passages behind one prompt prefix are nearly all that is here.
"""

from collections.abc import Collection, Iterator

from kvstore.parts import DigestParts, Values
from kvstore.types import SegmentKey

_NOBODY: dict[bytes, SegmentKey] = {}
_MAX_SMALL = 512
"""Keys of a group that is one dict."""


class Groups:
    """Not thread-safe: the store's metadata lock guards it."""

    def __init__(self) -> None:
        self._groups: DigestParts[dict[bytes, SegmentKey] | DigestParts[SegmentKey]] = DigestParts()
        """Keys by their digests."""

    def has(self, name: bytes) -> bool:
        """Whether the group has any key."""
        return self._groups.has(name)

    def add(self, name: bytes, key: SegmentKey) -> None:
        group = self._groups.get(name)
        if group is None:
            self._groups.put(name, {key.digest: key})
        elif not isinstance(group, dict):
            group.put(key.digest, key)
        else:
            group[key.digest] = key
            if len(group) > _MAX_SMALL:
                self._groups.put(name, DigestParts(group.items()))

    def remove(self, name: bytes, key: SegmentKey) -> None:
        group = self._groups.get(name)
        assert group is not None, f"{key} is in no group {name.hex()}"
        group.pop(key.digest)
        if not group:
            self._groups.pop(name)

    def contains(self, name: bytes, key: SegmentKey) -> bool:
        group = self._groups.get(name)
        return group is not None and group.get(key.digest) == key

    def size(self, name: bytes) -> int:
        group = self._groups.get(name)
        return 0 if group is None else len(group)

    def copy(self, name: bytes) -> Collection[SegmentKey]:
        """The group as it is now: to be looked through at leisure, without the lock."""
        group = self._groups.get(name, _NOBODY)
        return Values([group.copy()]) if isinstance(group, dict) else group.copy().values()

    def members(self) -> Iterator[SegmentKey | None]:
        """The keys of all groups that there are now; None where one has left since. Others come and
        go between two steps."""
        for name in self._groups.copy():
            yield None  # a step for each group, lest many that are gone are one
            for key in self.copy(name):
                yield key if self.contains(name, key) else None
