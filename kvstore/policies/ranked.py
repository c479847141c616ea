"""Leaf-first eviction in the order of a rank that a policy gives each segment."""

from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Container, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush

from sortedcontainers import SortedList  # type: ignore[import-untyped]  # it has no types

from kvstore.policies.base import NextUse
from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey

Rank = tuple[float, int]
"""Smallest goes first: the policy's value, then the time of the last use."""

_GHOSTS = 65_536
"""What is known of evicted segments is kept for this many."""


@dataclass(slots=True)
class History:
    """What a policy learns of a segment. It survives eviction, for a while."""

    uses: int = 0
    total_cost: float = 0.0
    """Seconds per token, summed over the times it was computed."""
    num_computed: int = 0

    @property
    def mean_cost(self) -> float:
        return self.total_cost / self.num_computed if self.num_computed else 0.0


@dataclass(slots=True)
class Node:
    entry: Entry
    history: History
    rank: Rank = (0.0, 0)


class RankedPolicy(ABC):
    """`value` orders the segments; ties go to the least recently used."""

    remembers = False
    """Whether the history of evicted segments is kept."""

    def __init__(self, looks_ahead: bool = False) -> None:
        self.looks_ahead = looks_ahead
        self._nodes: dict[SegmentKey, Node] = {}
        self._by_digest: dict[bytes, SegmentKey] = {}
        self._num_children: Counter[bytes] = Counter()  # by the parent's digest
        self._leaves: SortedList[tuple[Rank, SegmentKey]] = SortedList()
        self._ghosts: OrderedDict[SegmentKey, History] = OrderedDict()
        self._now = self._past = 0

    @abstractmethod
    def value(self, node: Node) -> float:
        """Of a node that was just used; smallest goes first."""

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
                self._remember(entry.key, node.history)

    def victims(
        self, nbytes: int, protected: Container[SegmentKey], next_use: NextUse
    ) -> list[SegmentKey]:
        found: list[SegmentKey] = []
        for key in self._in_order(protected, next_use):
            if nbytes <= 0:
                break
            found.append(key)
            nbytes -= self._nodes[key].entry.nbytes
        return found

    def _in_order(
        self, protected: Container[SegmentKey], next_use: NextUse
    ) -> Iterator[SegmentKey]:
        """Leaves by rank; a parent joins when the last of its children has gone."""
        gone: Counter[bytes] = Counter()
        exposed: list[tuple[Rank, SegmentKey]] = []
        needed: list[tuple[int, Rank, SegmentKey]] = []
        leaves = iter(self._leaves)
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
            if key in protected:
                continue
            if key in next_use:
                heappush(needed, (-next_use[key], rank, key))
            else:
                yield from self._one(key, gone, exposed)

    def _one(
        self, key: SegmentKey, gone: Counter[bytes], exposed: list[tuple[Rank, SegmentKey]]
    ) -> Iterator[SegmentKey]:
        yield key
        digest = self._nodes[key].entry.spec.parent
        gone[digest] += 1
        parent = self._by_digest.get(digest)
        if parent is not None and gone[digest] == self._num_children[digest]:
            heappush(exposed, (self._nodes[parent].rank, parent))

    def _rank(self, node: Node, recovered: bool = False) -> None:
        node.history.uses += 1
        if recovered:
            self._past -= 1
        else:
            self._now += 1
        node.rank = (self.value(node), self._past if recovered else self._now)

    def _show(self, key: SegmentKey) -> None:
        if not self._num_children.get(key.digest):
            self._leaves.add((self._nodes[key].rank, key))

    def _hide(self, digest: bytes) -> None:
        """Of the leaves, if it is one."""
        key = self._by_digest.get(digest)
        if key is not None and not self._num_children.get(digest):
            self._leaves.remove((self._nodes[key].rank, key))

    def _remember(self, key: SegmentKey, history: History) -> None:
        self._ghosts[key] = history
        if len(self._ghosts) > _GHOSTS:
            self._ghosts.popitem(last=False)
