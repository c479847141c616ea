"""What a policy knows of each segment: its rank now, and what was learned of it."""

from collections.abc import Collection
from dataclasses import dataclass
from heapq import nlargest

from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey

Rank = tuple[float, int]
"""Smallest goes first: the policy's value, then the time of the last use."""


@dataclass(slots=True)
class History:
    """What a policy learns of a segment. It survives eviction, for a while, and a restart."""

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
    num_children: int = 0
    is_held: bool = False
    is_shown: bool = False
    """Whether it stands in the order of eviction."""

    @property
    def may_go(self) -> bool:
        return not (self.num_children or self.is_held)


@dataclass(frozen=True, slots=True)
class Learned:
    """The histories that a policy had at one moment. They are looked at without the lock: a use
    that comes meanwhile is in them or is not."""

    nodes: Collection[Node]
    ghosts: Collection[tuple[int, tuple[SegmentKey, History]]]
    """What is known of segments that are not here, with larger numbers for what came later."""

    def latest(self, limit: int) -> list[tuple[SegmentKey, History]]:
        """The most recently used first, those that are here before all others."""
        here = nlargest(limit, self.nodes, key=lambda node: node.rank[1])
        found = [(node.entry.key, node.history) for node in here]
        gone = nlargest(limit - len(found), self.ghosts, key=lambda ghost: ghost[0])
        return found + [ghost for _, ghost in gone]
