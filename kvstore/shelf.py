"""What one tier holds, as the store's metadata know it: the chain, the passages, the order of
eviction.

The tier itself may lag: a file on its way to the disk is not on the shelf yet, one on its way out
is not any more. Matching, removal and eviction look here alone.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from kvstore.groups import Groups
from kvstore.parts import DigestParts
from kvstore.policies import EvictionPolicy, NextUse
from kvstore.shares import Shares, Tenants, everyone, miscounted
from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey, SegmentSpec

NOTHING: NextUse = {}


class Shelf:
    """Not thread-safe: the store's metadata lock guards it."""

    def __init__(self, policy: EvictionPolicy, shares: Shares | None = None) -> None:
        """`shares` count the entries, where nothing else does that for their tier."""
        self._shares = shares
        self.policy = policy
        """The order of eviction; changed through the shelf, but for what is held."""
        self._entries: DigestParts[Entry] = DigestParts()  # by the digests of their keys
        self._num = 0
        self._children = Groups()  # by their parent's digest
        self._tagged = Groups()
        self._gaps: DigestParts[None] = DigestParts()
        """Digests of parents that have children here, and are not here."""
        self.nbytes = 0
        self.hits = 0
        self.evictions = 0

    def __contains__(self, key: SegmentKey) -> bool:
        entry = self._entries.get(key.digest)
        return entry is not None and entry.spec.key == key

    def __len__(self) -> int:
        return self._num

    def spec(self, key: SegmentKey) -> SegmentSpec | None:
        entry = self.entry(key)
        return None if entry is None else entry.spec

    def entry(self, key: SegmentKey) -> Entry | None:
        entry = self._entries.get(key.digest)
        return entry if entry is not None and entry.spec.key == key else None

    def parent(self, spec: SegmentSpec) -> SegmentSpec | None:
        """Where it is here."""
        entry = self._entries.get(spec.parent)
        return None if entry is None else entry.spec

    def entries(self) -> Collection[Entry]:
        """Those of now: to be looked through at leisure, without the lock."""
        return self._entries.copy().values()

    def tenant(self, key: SegmentKey) -> bytes:
        return self._entry(key).spec.tenant

    def tenants(self, keys: Iterable[SegmentKey]) -> set[bytes]:
        """Of those of the keys that are here."""
        found = map(self.spec, keys)
        return {spec.tenant for spec in found if spec is not None}

    def specs(self) -> list[SegmentSpec]:
        return [entry.spec for entry in self._entries.values()]

    def can_add(self, spec: SegmentSpec) -> bool:
        """Whether the chains stay chains: its digest is nobody else's, and it precedes itself
        nowhere. What callers and files say in turn may contradict each other."""
        digest, at = spec.key.digest, spec.parent
        known = self._entries.get(digest)
        if (known is not None and known.spec.key != spec.key) or at == digest:
            return False
        if not self._children.has(digest):
            return True
        while (entry := self._entries.get(at)) is not None:
            at = entry.spec.parent
            if at == digest:
                return False
        return True

    def add(self, entry: Entry, cost: float | None = None, recovered: bool = False) -> None:
        """`cost` is what computing it took, in seconds per token, where it was computed now.
        `recovered`: it was last used before all that is here."""
        spec = entry.spec
        assert self.can_add(spec), f"{spec.key} contradicts what is here"
        digest = spec.key.digest
        self._num += 1
        self._entries.put(digest, entry)
        if self._gaps.has(digest):
            self._gaps.pop(digest)
        if not self._entries.has(spec.parent):
            self._gaps.put(spec.parent, None)
        self.nbytes += entry.nbytes
        self._children.add(spec.parent, spec.key)
        self._tagged.add(spec.tag, spec.key)
        if self._shares is not None:
            self._shares.take(spec.tenant, entry.nbytes)
        self.policy.on_insert(entry, cost, recovered)

    def remove(self, key: SegmentKey, evicted: bool = False) -> None:
        entry = self._entries.pop(key.digest)
        assert entry.spec.key == key, f"{entry.spec.key} was to be removed as {key}"
        self._num -= 1
        self.nbytes -= entry.nbytes
        self.policy.on_remove(entry, evicted)
        self.evictions += evicted
        self._children.remove(entry.spec.parent, key)
        self._tagged.remove(entry.spec.tag, key)
        if self._children.has(key.digest):
            self._gaps.put(key.digest, None)
        if not self._children.has(entry.spec.parent):
            self._gaps.pop(entry.spec.parent, None)
        if self._shares is not None:
            self._shares.give_back(entry.spec.tenant, entry.nbytes)

    def touch(self, keys: Iterable[SegmentKey]) -> None:
        """Use of a path, given leaf first. Keys that are not here are passed over."""
        for key in keys:
            if (entry := self.entry(key)) is not None:
                self.policy.on_access(entry)

    def victims(
        self, nbytes: int, next_use: NextUse, turns: Iterable[Tenants] = (everyone,)
    ) -> list[SegmentKey]:
        """What to evict to free `nbytes`, of the first of the turns that suffices; nothing when
        even the last does not."""
        for tenants in turns:
            found = self.next_to_go(nbytes, next_use, tenants)
            if sum(self._entry(key).nbytes for key in found) >= nbytes:
                return found
        return []

    def next_to_go(
        self,
        nbytes: int,
        next_use: NextUse = NOTHING,
        tenants: Tenants = everyone,
        limit: int | None = None,
    ) -> list[SegmentKey]:
        """The first in the order of eviction that together free `nbytes`; all that may go, up to
        the limit, when they do not suffice."""
        found: list[SegmentKey] = []
        order = islice(self.policy.order(next_use, tenants), limit)
        while nbytes > 0 and (key := next(order, None)) is not None:
            found.append(key)
            nbytes -= self._entry(key).nbytes
        return found

    def family(self, key: SegmentKey, limit: int) -> list[SegmentKey] | None:
        """The segment behind all that follows it, each behind its own; None beyond `limit`."""
        if not self._children.has(key.digest):
            return [key]
        found, todo = [key], [key]
        while todo:
            digest = todo.pop().digest
            if len(found) + self._children.size(digest) > limit:
                return None
            children = self._children.copy(digest)
            found += children
            todo += children
        return found[::-1]

    def has_children(self, key: SegmentKey) -> bool:
        return self._children.has(key.digest)

    def children(self, digest: bytes) -> Collection[SegmentKey]:
        """As `entries`."""
        return self._children.copy(digest)

    def gaps(self) -> Collection[bytes]:
        """Digests that segments here follow, and that nothing here has: of roots, and of what was
        lost or never stored. As `entries`."""
        return self._gaps.copy()

    def tagged(self, tag: bytes) -> Collection[SegmentKey]:
        """As `entries`."""
        return self._tagged.copy(tag)

    def key_of(self, digest: bytes) -> SegmentKey | None:
        """Of the segment here that has this digest."""
        entry = self._entries.get(digest)
        return None if entry is None else entry.spec.key

    def copy_of_entries(self) -> "ShelfCopy":
        """As they are now, with what is counted of them."""
        shares = None if self._shares is None else self._shares.counted()
        return ShelfCopy(self.entries(), self.nbytes, len(self.policy), shares)

    def grouped(self) -> Iterator[SegmentKey | None]:
        """The keys among the children of each parent, and among the segments of each tag (see
        `Groups.members`)."""
        yield from self._children.members()
        yield from self._tagged.members()

    def problems_of(self, entry: Entry) -> Iterator[str]:
        """What does not fit an entry that is here."""
        spec = entry.spec
        if not self._children.contains(spec.parent, spec.key):
            yield f"{spec.key} is no child of its parent"
        if not self._tagged.contains(spec.tag, spec.key):
            yield f"{spec.key} is not found by its tag"
        if self._gaps.has(spec.parent) == self._entries.has(spec.parent):
            yield f"{spec.key} is on either side of a gap"
        yield from self.policy.problems_of(entry)

    def check(self, name: str, nbytes: int) -> list[str]:
        """All of that at once, against the bytes that the tier says it uses for these entries."""
        copy = self.copy_of_entries()
        keys = [entry.key for entry in copy.entries]
        problems = copy.check(name) + [f"{name}: {p}" for p in self.policy.check(keys)]
        problems += [f"{name}: {p}" for e in copy.entries for p in self.problems_of(e)]
        if self.nbytes != nbytes:
            problems.append(f"{name}: {self.nbytes} bytes, the tier has {nbytes}")
        if (num := sum(key is not None for key in self.grouped())) != 2 * len(self):
            problems.append(f"{name}: {num} keys by children and tags, {len(self)} entries")
        return problems

    def _entry(self, key: SegmentKey) -> Entry:
        entry = self.entry(key)
        assert entry is not None, f"{key} is not on the shelf"
        return entry


@dataclass(frozen=True, slots=True)
class ShelfCopy:
    """What was on a shelf at one moment."""

    entries: Collection[Entry]
    nbytes: int
    num_ranked: int
    shares: Counter[bytes] | None

    def check(self, name: str) -> list[str]:
        """What is counted is what is there."""
        problems, total = [], sum(entry.nbytes for entry in self.entries)
        if total != self.nbytes or len(self.entries) != self.num_ranked:
            problems.append(
                f"{name}: {len(self.entries)} entries of {total} bytes, counted {self.nbytes}, "
                f"the policy has {self.num_ranked}"
            )
        if self.shares is not None:
            taken = ((entry.spec.tenant, entry.nbytes) for entry in self.entries)
            problems += miscounted(name, self.shares, taken)
        return problems
