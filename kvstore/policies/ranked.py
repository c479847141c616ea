"""Leaf-first eviction in the order of a rank that a policy gives each segment."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator
from heapq import heappop, heappush
from itertools import islice

from kvstore.policies.base import Leaf, NextUse
from kvstore.policies.leaves import Leaves
from kvstore.policies.nodes import History, Learned, Node, Rank
from kvstore.shares import Tenants, everyone
from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey

MAX_GHOSTS = 65_536
"""What is known of evicted segments is kept for this many."""
_FORGOTTEN_AT_ONCE = 256
"""The first key of a dict is found past the places of all that were deleted before it."""


class RankedPolicy(ABC):
    """`value` orders the segments; ties go to the least recently used."""

    remembers = False
    """Whether the history of evicted segments is kept."""

    def __init__(self, looks_ahead: bool = False) -> None:
        self.looks_ahead = looks_ahead
        self._nodes: dict[SegmentKey, Node] = {}
        self._by_digest: dict[bytes, SegmentKey] = {}
        self._num_children: Counter[bytes] = Counter()  # by the parent's digest
        self._held: set[bytes] = set()
        self._leaves = Leaves()
        self._ghosts: dict[SegmentKey, History] = {}
        """The latest last. An OrderedDict would take fifty times as long to copy."""
        self._now = self._past = 0
        self.num_shown = 0

    @abstractmethod
    def value(self, node: Node) -> float:
        """Of a node that was just used; smallest goes first."""

    @abstractmethod
    def loss_of(self, node: Node) -> float:
        """What evicting it now costs for each byte of it, 0 or more, in a unit of the policy's."""

    def evicted(self, node: Node) -> None:  # noqa: B027  # most policies learn nothing from it
        """A node went to make room."""

    def on_insert(self, entry: Entry, cost: float | None = None, recovered: bool = False) -> None:
        history = self._ghosts.pop(entry.key, None) or History()
        if cost is not None:
            history.total_cost += cost
            history.num_computed += 1
        node = self._nodes[entry.key] = Node(entry, history)
        self._by_digest[entry.key.digest] = entry.key
        self._hide(entry.spec.parent)
        self._num_children[entry.spec.parent] += 1
        self._rank(node, recovered)
        self._show(entry.key)

    def on_access(self, entry: Entry) -> None:
        self._hide(entry.key.digest)
        self._rank(self._nodes[entry.key])
        self._show(entry.key)

    def on_remove(self, entry: Entry, evicted: bool) -> None:
        self._hide(entry.key.digest)
        node = self._nodes.pop(entry.key)
        del self._by_digest[entry.key.digest]
        parent = entry.spec.parent
        self._num_children[parent] -= 1
        if not self._num_children[parent]:
            del self._num_children[parent]
            if parent in self._by_digest:
                self._show(self._by_digest[parent])
        if evicted:
            self.evicted(node)
            if self.remembers:
                self.remember(entry.key, node.history)

    def age(self, node: Node) -> int:
        """Uses of anything since it was used."""
        return self._now - node.rank[1]

    def hold(self, digest: bytes) -> None:
        if digest in self._by_digest:
            self._hide(digest)
        self._held.add(digest)

    def unhold(self, digest: bytes) -> None:
        if digest in self._held:
            self._held.remove(digest)
            if digest in self._by_digest:
                self._show(self._by_digest[digest])

    def is_held(self, digest: bytes) -> bool:
        return digest in self._held

    def learned(self) -> Learned:
        nodes, ghosts = list(self._nodes.values()), self._ghosts
        return Learned(nodes, list(ghosts), list(ghosts.values()))

    def remember(self, key: SegmentKey, history: History) -> None:
        if key in self._nodes:
            return
        self._ghosts.pop(key, None)
        self._ghosts[key] = history
        if len(self._ghosts) > MAX_GHOSTS:
            for oldest in list(islice(self._ghosts, _FORGOTTEN_AT_ONCE)):
                del self._ghosts[oldest]

    def loss(self, key: SegmentKey) -> float:
        return self.loss_of(self._nodes[key])

    def order(self, next_use: NextUse, tenants: Tenants = everyone) -> Iterator[SegmentKey]:
        gone: Counter[bytes] = Counter()
        exposed: list[Leaf] = []
        next_use = next_use if self.looks_ahead else {}
        needed: list[tuple[int, Rank, SegmentKey]] = []
        leaves = self._leaves.merged(tenants)
        leaf = next(leaves, None)
        while leaf or exposed or needed:
            if leaf and (not exposed or leaf < exposed[0]):
                (rank, key), leaf = leaf, next(leaves, None)
            elif exposed:
                rank, key = heappop(exposed)
            else:
                _, rank, key = heappop(needed)
                yield from self._one(key, gone, exposed)
                continue
            if key in next_use:
                heappush(needed, (-next_use[key], rank, key))
            else:
                yield from self._one(key, gone, exposed)

    def __len__(self) -> int:
        return len(self._nodes)

    def key_of(self, digest: bytes) -> SegmentKey | None:
        return self._by_digest.get(digest)

    def problems_of(self, entry: Entry) -> Iterator[str]:
        node, digest = self._nodes.get(entry.key), entry.key.digest
        if node is None or node.entry is not entry or self._by_digest.get(digest) != entry.key:
            yield f"the policy does not know {entry.key}"
        elif not self._num_children[entry.spec.parent]:
            yield f"the policy counts no children of the parent of {entry.key}"
        elif self._leaves.has(entry.spec.tenant, (node.rank, entry.key)) != self._may_go(digest):
            yield f"{entry.key} is in the order of eviction, and may not go, or the reverse"

    def tenants(self) -> list[bytes]:
        return self._leaves.tenants()

    def leaves(self, tenant: bytes) -> list[Leaf]:
        return self._leaves.copy(tenant)

    def is_stale(self, tenant: bytes, leaf: Leaf) -> bool:
        rank, key = leaf
        node = self._nodes.get(key)
        if node is not None and node.rank == rank and self._may_go(key.digest):
            return False
        return self._leaves.has(tenant, leaf)

    def check(self, keys: Collection[SegmentKey]) -> list[str]:
        problems = []
        if self._nodes.keys() != set(keys):
            problems.append(f"the policy knows {len(self._nodes)} of {len(keys)} entries")
        parents = Counter(node.entry.spec.parent for node in self._nodes.values())
        if parents != self._num_children:
            problems.append(f"the policy counts {self._num_children.total()} children")
        free = (k for k in self._nodes if k.digest not in parents and k.digest not in self._held)
        if sorted(self._leaves) != sorted((self._nodes[key].rank, key) for key in free):
            problems.append("the order of eviction is not the leaves that nobody holds")
        return problems

    def _one(
        self, key: SegmentKey, gone: Counter[bytes], exposed: list[Leaf]
    ) -> Iterator[SegmentKey]:
        """The key; its parent joins when the last of its children has gone."""
        yield key
        digest = self._nodes[key].entry.spec.parent
        gone[digest] += 1
        parent = self._by_digest.get(digest)
        if digest in self._held or parent is None:
            return
        if gone[digest] == self._num_children[digest]:
            heappush(exposed, (self._nodes[parent].rank, parent))

    def _rank(self, node: Node, recovered: bool = False) -> None:
        if not (recovered and node.history.uses):  # to be found again is no use
            node.history.uses += 1
        if recovered:
            self._past -= 1
        else:
            self._now += 1
        node.rank = (self.value(node), self._past if recovered else self._now)

    def _show(self, key: SegmentKey) -> None:
        if self._may_go(key.digest):
            node = self._nodes[key]
            self._leaves.add(node.entry.spec.tenant, (node.rank, key))
            self.num_shown += 1

    def _hide(self, digest: bytes) -> None:
        """Of the leaves that may go, if it is one."""
        key = self._by_digest.get(digest)
        if key is not None and self._may_go(digest):
            node = self._nodes[key]
            self._leaves.remove(node.entry.spec.tenant, (node.rank, key))

    def _may_go(self, digest: bytes) -> bool:
        return digest not in self._num_children and digest not in self._held
