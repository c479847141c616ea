"""What one tier holds, as the store's metadata know it: the chain, the passages, the order of
eviction.

The tier itself may lag: a file on its way to the disk is not on the shelf yet, one on its way out
is not any more. Matching, removal and eviction look here alone.
"""

from collections import defaultdict
from collections.abc import Container, Iterable

from kvstore.policies import EvictionPolicy, NextUse
from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey, SegmentSpec


class Shelf:
    """Not thread-safe: the store's metadata lock guards it."""

    def __init__(self, policy: EvictionPolicy) -> None:
        self._policy = policy
        self._entries: dict[SegmentKey, Entry] = {}
        self._children: dict[bytes, set[SegmentKey]] = defaultdict(set)  # of a parent's digest
        self._tagged: dict[bytes, set[SegmentKey]] = defaultdict(set)
        self._digests: dict[bytes, SegmentKey] = {}
        self.hits = 0
        self.evictions = 0

    def __contains__(self, key: SegmentKey) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def spec(self, key: SegmentKey) -> SegmentSpec | None:
        entry = self._entries.get(key)
        return None if entry is None else entry.spec

    def entries(self) -> list[Entry]:
        """One copy of a dict's values, at a few nanoseconds each."""
        return list(self._entries.values())

    def specs(self) -> list[SegmentSpec]:
        return [entry.spec for entry in self._entries.values()]

    def can_add(self, spec: SegmentSpec) -> bool:
        """Whether the chains stay chains: its digest is nobody else's, and it precedes itself
        nowhere. What callers and files say in turn may contradict each other."""
        digest, at = spec.key.digest, spec.parent
        if self._digests.get(digest, spec.key) != spec.key or at == digest:
            return False
        if digest not in self._children:
            return True
        while (key := self._digests.get(at)) is not None:
            at = self._entries[key].spec.parent
            if at == digest:
                return False
        return True

    def add(self, entry: Entry, cost: float | None = None, recovered: bool = False) -> None:
        """`cost` is what computing it took, in seconds per token, where it was computed now.
        `recovered`: it was last used before all that is here."""
        spec = entry.spec
        assert self.can_add(spec), f"{spec.key} contradicts what is here"
        self._entries[spec.key] = entry
        self._digests[spec.key.digest] = spec.key
        self._children[spec.parent].add(spec.key)
        self._tagged[spec.tag].add(spec.key)
        self._policy.on_insert(entry, cost, recovered)

    def remove(self, key: SegmentKey, evicted: bool = False) -> None:
        entry = self._entries.pop(key)
        del self._digests[key.digest]
        self._policy.on_remove(entry, evicted)
        self.evictions += evicted
        for groups, name in ((self._children, entry.spec.parent), (self._tagged, entry.spec.tag)):
            groups[name].remove(key)
            if not groups[name]:
                del groups[name]

    def touch(self, keys: Iterable[SegmentKey]) -> None:
        """Use of a path, given leaf first. Keys that are not here are passed over."""
        for key in keys:
            if entry := self._entries.get(key):
                self._policy.on_access(entry)

    def victims(
        self, nbytes: int, next_use: NextUse, *protections: Container[SegmentKey]
    ) -> list[SegmentKey]:
        """What to evict to free `nbytes`, under the first of the protections that leaves enough
        outside of what is needed next; else under the last, with that; nothing when even then not
        enough goes."""
        needed = next_use if self._policy.looks_ahead else {}
        for protected in protections:
            found = self._policy.victims(nbytes, AnyOf(protected, needed), {})
            if self._suffice(found, nbytes):
                return found
        found = self._policy.victims(nbytes, protections[-1], needed) if needed else []
        return found if self._suffice(found, nbytes) else []

    def _suffice(self, found: list[SegmentKey], nbytes: int) -> bool:
        return sum(self._entries[key].nbytes for key in found) >= nbytes

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
        if set(self._policy.victims(2**63, (), {})) != set(self._entries):
            problems.append(f"{name}: the policy does not know the {len(self)} entries")
        for groups, what in ((self._children, "children"), (self._tagged, "tags")):
            if (num := sum(len(group) for group in groups.values())) != len(self):
                problems.append(f"{name}: {num} keys by {what}, {len(self)} entries")
        return problems


class AnyOf(Container[SegmentKey]):
    """What at least one of the containers holds."""

    def __init__(self, *containers: Container[SegmentKey]) -> None:
        self._containers = containers

    def __contains__(self, key: object) -> bool:
        return any(key in container for container in self._containers)
