"""What one tier holds, as the store's metadata know it: the chain, the passages, the order of
eviction.

The tier itself may lag: a file on its way to the disk is not on the shelf yet, one on its way out
is not any more. Matching, removal and eviction look here alone.
"""

from collections import defaultdict
from collections.abc import Container, Iterable

from kvstore.policies import EvictionPolicy
from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey, SegmentSpec


class Shelf:
    """Not thread-safe: the store's metadata lock guards it."""

    def __init__(self, policy: EvictionPolicy) -> None:
        self._policy = policy
        self._entries: dict[SegmentKey, Entry] = {}
        self._by_digest: dict[bytes, SegmentKey] = {}
        self._children: dict[bytes, set[SegmentKey]] = defaultdict(set)  # of a parent's digest
        self._tagged: dict[bytes, set[SegmentKey]] = defaultdict(set)
        self.hits = 0
        self.evictions = 0

    def __contains__(self, key: SegmentKey) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def spec(self, key: SegmentKey) -> SegmentSpec | None:
        entry = self._entries.get(key)
        return None if entry is None else entry.spec

    def specs(self) -> list[SegmentSpec]:
        return [entry.spec for entry in self._entries.values()]

    def add(self, entry: Entry) -> None:
        """The newest; then its ancestors are touched, so that they stay more recent than it."""
        spec = entry.spec
        self._entries[spec.key] = entry
        self._by_digest[spec.key.digest] = spec.key
        self._children[spec.parent].add(spec.key)
        self._tagged[spec.tag].add(spec.key)
        self._policy.on_insert(entry)
        self._touch_ancestors(spec)

    def remove(self, key: SegmentKey) -> None:
        entry = self._entries.pop(key)
        self._policy.on_remove(entry)
        del self._by_digest[key.digest]
        for groups, name in ((self._children, entry.spec.parent), (self._tagged, entry.spec.tag)):
            groups[name].remove(key)
            if not groups[name]:
                del groups[name]

    def touch(self, keys: Iterable[SegmentKey]) -> None:
        """Use of a path, given leaf first. Keys that are not here are passed over."""
        for key in keys:
            if entry := self._entries.get(key):
                self._policy.on_access(entry)

    def victims(self, nbytes: int, *protections: Container[SegmentKey]) -> list[SegmentKey]:
        """What to evict to free `nbytes`, under the first of the protections that leaves enough;
        nothing when even the last does not."""
        for protected in protections:
            found = self._policy.victims(nbytes, protected)
            if sum(self._entries[key].nbytes for key in found) >= nbytes:
                return found
        return []

    def children(self, digest: bytes) -> list[SegmentSpec]:
        return [self._entries[key].spec for key in self._children.get(digest, ())]

    def tagged(self, tag: bytes) -> list[SegmentSpec]:
        return [self._entries[key].spec for key in self._tagged.get(tag, ())]

    def check(self, name: str, nbytes: int) -> list[str]:
        """Against itself, its policy, and the bytes that the tier says it uses for these
        entries."""
        problems = []
        if (total := sum(entry.nbytes for entry in self._entries.values())) != nbytes:
            problems.append(f"{name}: {len(self)} entries of {total} bytes, the tier has {nbytes}")
        if set(self._policy.victims(2**63, ())) != set(self._entries):
            problems.append(f"{name}: the policy does not know the {len(self)} entries")
        for groups, what in ((self._children, "children"), (self._tagged, "tags")):
            if (num := sum(len(group) for group in groups.values())) != len(self):
                problems.append(f"{name}: {num} keys by {what}, {len(self)} entries")
        return problems

    def _touch_ancestors(self, spec: SegmentSpec) -> None:
        parent = self._by_digest.get(spec.parent)
        while parent is not None:
            entry = self._entries[parent]
            self._policy.on_access(entry)
            parent = self._by_digest.get(entry.spec.parent)
