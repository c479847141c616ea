"""What was deleted and one slow tier may still have: its tombstones."""

from collections.abc import Collection

from kvstore.types import SegmentKey, SegmentSpec

_MAX = 2**20
"""Tags and digests that are remembered; beyond it everything on the tier counts as deleted."""


class Tombstones:
    """A tombstone dooms every object of a passage, and all that was computed after it. While it
    stands, nothing that it dooms is read from the tier, or written to it.

    Each removal has a version, and `lift(version)` ends the tombstones of it and of those before.
    Not thread-safe: the store's metadata lock guards it.
    """

    def __init__(self) -> None:
        self._tags: dict[bytes, int] = {}  # to the latest version that removed it
        self._digests: dict[bytes, int] = {}
        self._all = 0
        self.version = 0
        """Of the latest removal."""
        self.lifted = 0
        """No tombstone of this version or an earlier one stands."""

    def __bool__(self) -> bool:
        return self.lifted < self.version

    def __len__(self) -> int:
        """Passages of which the tier may still have something; at least 1 while any stand."""
        return max(len(self._tags), int(bool(self)))

    def add(self, tags: Collection[bytes], keys: Collection[SegmentKey]) -> int:
        """`keys` are of segments that go with the passages of these tags, as far as they are
        known. Returns the version."""
        self.version += 1
        if len(self._tags) + len(self._digests) + len(tags) + len(keys) > _MAX:
            self._all = self.version
            return self.version
        self._tags.update(dict.fromkeys(tags, self.version))
        self._digests.update({key.digest: self.version for key in keys})
        return self.version

    def add_all(self) -> int:
        """Everything that the tier has now is doomed."""
        self._all = self.version = self.version + 1
        return self.version

    def dooms(self, spec: SegmentSpec) -> bool:
        """Whether it is of a removed passage, or follows one. Ask parents before their children:
        what is doomed is remembered as such."""
        if not self:
            return False
        if self._all:
            return True
        version = max(
            self._tags.get(spec.tag, 0),
            self._digests.get(spec.parent, 0),
            self._digests.get(spec.key.digest, 0),
        )
        if version:
            self._digests.setdefault(spec.key.digest, version)
            if len(self._tags) + len(self._digests) > _MAX:
                self._all = self.version
        return version > 0

    def dooms_key(self, key: SegmentKey | None) -> bool:
        """Whether it is known to be doomed."""
        return bool(self) and key is not None and (bool(self._all) or key.digest in self._digests)

    def tags(self) -> list[bytes]:
        return list(self._tags)

    def digests(self) -> list[bytes]:
        return list(self._digests)

    def lift(self, version: int) -> None:
        """The tier has nothing any more of what was removed in this version or earlier."""
        self.lifted = max(self.lifted, version)
        self._tags = {tag: of for tag, of in self._tags.items() if of > version}
        self._digests = {digest: of for digest, of in self._digests.items() if of > version}
        self._all = self._all if self._all > version else 0
