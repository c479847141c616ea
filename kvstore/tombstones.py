"""What was deleted and one slow tier may still have: its tombstones."""

from collections.abc import Collection

from kvstore.parts import DigestParts
from kvstore.types import MARK_NBYTES, SegmentKey, SegmentSpec

_MAX = 2**20
"""Tags and digests that are remembered; beyond it everything on the tier counts as deleted."""


class Tombstones:
    """A tombstone dooms every object of a passage, and all that was computed after it. While it
    stands, nothing that it dooms is read from the tier, or written to it.

    Each removal has a version, and `lift(version)` ends the tombstones of it and of those before.
    Nothing here is about all tombstones at once: what is lifted is forgotten one by one.
    Not thread-safe: the store's metadata lock guards it.
    """

    def __init__(self) -> None:
        self._tags: DigestParts[int] = DigestParts()  # to the latest version that removed it
        self._digests: DigestParts[int] = DigestParts()
        self._marks: DigestParts[int] = DigestParts()  # of the tags
        self._all = 0
        self._open: set[int] = set()
        self.version = 0
        """Of the latest removal."""
        self.lifted = 0
        """No tombstone of this version or an earlier one stands."""

    def __bool__(self) -> bool:
        return self.lifted < self.version

    def __len__(self) -> int:
        """Passages of which the tier may still have something; at least 1 while any stand."""
        return max(len(self._tags), 1) if self else 0

    @property
    def complete(self) -> int:
        """The latest version that is complete, as all before it are: it may be lifted."""
        return min(self._open, default=self.version + 1) - 1

    def begin(self) -> int:
        """A removal begins, and what it dooms is told with `doom`, until `end`. Its version."""
        self.version += 1
        self._open.add(self.version)
        return self.version

    def doom(
        self, version: int, tags: Collection[bytes] = (), digests: Collection[bytes] = ()
    ) -> None:
        """More that goes with the removal of this version."""
        if len(self._tags) + len(self._digests) + len(tags) + len(digests) > _MAX:
            self._all = max(self._all, version)
            return
        marks = [tag[:MARK_NBYTES] for tag in tags]
        told = ((self._tags, tags), (self._marks, marks), (self._digests, digests))
        for stones, names in told:
            for name in names:
                if stones.get(name, 0) < version:
                    stones.put(name, version)

    def end(self, version: int) -> None:
        """All that the removal of this version dooms was told."""
        self._open.remove(version)

    def add(self, tags: Collection[bytes], keys: Collection[SegmentKey]) -> int:
        """A removal that is known whole. `keys` are of segments that go with the passages of these
        tags. Returns the version."""
        version = self.begin()
        self.doom(version, tags, [key.digest for key in keys])
        self.end(version)
        return version

    def add_all(self) -> int:
        """Everything that the tier has now is doomed."""
        self._all = self.version = self.version + 1
        return self.version

    def dooms(self, spec: SegmentSpec) -> bool:
        """Whether it is of a removed passage, or follows one. Ask parents before their children:
        what is doomed is remembered as such."""
        if not self:
            return False
        if self._all > self.lifted:
            return True
        digest = spec.key.digest
        version = max(
            self._tags.get(spec.tag, 0),
            self._digests.get(spec.parent, 0),
            self._of(digest),
            *(self._marks.get(mark, 0) for mark in spec.marks),
        )
        if version <= self.lifted:
            return False
        if self._of(digest) <= self.lifted:
            self.doom(version, digests=(digest,))
        return True

    def dooms_key(self, key: SegmentKey | None) -> bool:
        """Whether it is known to be doomed."""
        if key is None or not self:
            return False
        return max(self._all, self._of(key.digest)) > self.lifted

    def tags(self) -> Collection[bytes]:
        """Those of now, lifted ones among them: to be looked through at leisure, without the
        lock."""
        return self._tags.copy()

    def digests(self) -> Collection[bytes]:
        """As `tags`."""
        return self._digests.copy()

    def lift(self, version: int) -> None:
        """The tier has nothing any more of what was removed in this version or earlier."""
        self.lifted = max(self.lifted, version)

    def forget(self, name: bytes) -> None:
        """A tag or a digest, if its tombstone was lifted."""
        names = ((self._tags, name), (self._digests, name), (self._marks, name[:MARK_NBYTES]))
        for stones, each in names:
            if stones.get(each, self.version + 1) <= self.lifted:
                stones.pop(each)

    def _of(self, digest: bytes) -> int:
        return self._digests.get(digest, 0)
