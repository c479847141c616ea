"""What one tier holds, as the store's metadata know it: the chain, the passages, the order of
eviction.

The tier itself may lag: a file on its way to the disk is not on the shelf yet, one on its way out
is not any more. Matching, removal and eviction look here alone.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from kvstore.policies import EvictionPolicy, NextUse
from kvstore.shares import Shares, Tenants, everyone, miscounted
from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey, SegmentSpec

NOTHING: NextUse = {}

Group = dict[SegmentKey, None]
"""A set of keys. A dict without values is copied three times as fast as a set."""


class Shelf:
    """Not thread-safe: the store's metadata lock guards it."""

    def __init__(self, policy: EvictionPolicy, shares: Shares | None = None) -> None:
        """`shares` count the entries, where nothing else does that for their tier."""
        self._shares = shares
        self.policy = policy
        """The order of eviction; changed through the shelf, but for what is held."""
        self._entries: dict[SegmentKey, Entry] = {}
        self._children: dict[bytes, Group] = defaultdict(dict)  # of a parent's digest
        self._tagged: dict[bytes, Group] = defaultdict(dict)
        self._digests: dict[bytes, SegmentKey] = {}
        self._gaps: set[bytes] = set()  # of parents that have children here, and are not here
        self.nbytes = 0
        self.hits = 0
        self.evictions = 0

    def __contains__(self, key: SegmentKey) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def spec(self, key: SegmentKey) -> SegmentSpec | None:
        entry = self._entries.get(key)
        return None if entry is None else entry.spec

    def entry(self, key: SegmentKey) -> Entry | None:
        return self._entries.get(key)

    def parent(self, spec: SegmentSpec) -> SegmentSpec | None:
        """Where it is here."""
        key = self._digests.get(spec.parent)
        return None if key is None else self._entries[key].spec

    def keys(self) -> list[SegmentKey]:
        """One copy of a dict's keys, at a few nanoseconds each."""
        return list(self._entries)

    def entries(self) -> list[Entry]:
        """As fast."""
        return list(self._entries.values())

    def tenant(self, key: SegmentKey) -> bytes:
        return self._entries[key].spec.tenant

    def tenants(self, keys: Iterable[SegmentKey]) -> set[bytes]:
        """Of those of the keys that are here."""
        return {self._entries[key].spec.tenant for key in keys if key in self._entries}

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
        self._gaps.discard(spec.key.digest)
        if spec.parent not in self._digests:
            self._gaps.add(spec.parent)
        self.nbytes += entry.nbytes
        self._children[spec.parent][spec.key] = None
        self._tagged[spec.tag][spec.key] = None
        if self._shares is not None:
            self._shares.take(spec.tenant, entry.nbytes)
        self.policy.on_insert(entry, cost, recovered)

    def remove(self, key: SegmentKey, evicted: bool = False) -> None:
        entry = self._entries.pop(key)
        del self._digests[key.digest]
        self.nbytes -= entry.nbytes
        self.policy.on_remove(entry, evicted)
        self.evictions += evicted
        for groups, name in ((self._children, entry.spec.parent), (self._tagged, entry.spec.tag)):
            del groups[name][key]
            if not groups[name]:
                del groups[name]
        if key.digest in self._children:
            self._gaps.add(key.digest)
        if entry.spec.parent not in self._children:
            self._gaps.discard(entry.spec.parent)
        if self._shares is not None:
            self._shares.give_back(entry.spec.tenant, entry.nbytes)

    def touch(self, keys: Iterable[SegmentKey]) -> None:
        """Use of a path, given leaf first. Keys that are not here are passed over."""
        for key in keys:
            if entry := self._entries.get(key):
                self.policy.on_access(entry)

    def victims(
        self, nbytes: int, next_use: NextUse, turns: Iterable[Tenants] = (everyone,)
    ) -> list[SegmentKey]:
        """What to evict to free `nbytes`, of the first of the turns that suffices; nothing when
        even the last does not."""
        for tenants in turns:
            found = self.next_to_go(nbytes, next_use, tenants)
            if sum(self._entries[key].nbytes for key in found) >= nbytes:
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
            nbytes -= self._entries[key].nbytes
        return found

    def family(self, key: SegmentKey, limit: int) -> list[SegmentKey] | None:
        """The segment behind all that follows it, each behind its own; None beyond `limit`."""
        if key.digest not in self._children:
            return [key]
        found, todo = [key], [key]
        while todo:
            children = self._children.get(todo.pop().digest, ())
            if len(found) + len(children) > limit:
                return None
            found += children
            todo += children
        return found[::-1]

    def has_children(self, key: SegmentKey) -> bool:
        return key.digest in self._children

    def children(self, digest: bytes) -> list[SegmentKey]:
        """One copy of a dict's keys, at a few nanoseconds each."""
        return list(self._children.get(digest, ()))

    def gaps(self) -> list[bytes]:
        """Digests that segments here follow, and that nothing here has: of roots, and of what was
        lost or never stored. As fast."""
        return list(self._gaps)

    def tagged(self, tag: bytes) -> list[SegmentKey]:
        """As fast."""
        return list(self._tagged.get(tag, ()))

    def key_of(self, digest: bytes) -> SegmentKey | None:
        """Of the segment here that has this digest."""
        return self._digests.get(digest)

    def copy_of_entries(self) -> "ShelfCopy":
        """As they are now, with what is counted of them."""
        shares = None if self._shares is None else self._shares.counted()
        return ShelfCopy(self.entries(), self.nbytes, len(self.policy), shares)

    def groups(self) -> list[Group]:
        """The children of each parent, and the segments of each tag."""
        return [*self._children.values(), *self._tagged.values()]

    def problems_of(self, entry: Entry) -> Iterator[str]:
        """What does not fit an entry that is here."""
        spec = entry.spec
        if spec.key not in self._children.get(spec.parent, ()):
            yield f"{spec.key} is no child of its parent"
        if spec.key not in self._tagged.get(spec.tag, ()):
            yield f"{spec.key} is not found by its tag"
        if (spec.parent in self._gaps) == (spec.parent in self._digests):
            yield f"{spec.key} is on either side of a gap"
        yield from self.policy.problems_of(entry)

    def check(self, name: str, nbytes: int) -> list[str]:
        """All of that at once, against the bytes that the tier says it uses for these entries."""
        copy = self.copy_of_entries()
        problems = copy.check(name) + [f"{name}: {p}" for p in self.policy.check(self._entries)]
        problems += [f"{name}: {p}" for e in copy.entries for p in self.problems_of(e)]
        if self.nbytes != nbytes:
            problems.append(f"{name}: {self.nbytes} bytes, the tier has {nbytes}")
        if (num := sum(map(len, self.groups()))) != 2 * len(self):
            problems.append(f"{name}: {num} keys by children and tags, {len(self)} entries")
        return problems


@dataclass(frozen=True, slots=True)
class ShelfCopy:
    """What was on a shelf at one moment."""

    entries: list[Entry]
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
