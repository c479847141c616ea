"""Greedy-dual by frequency and cost, and RAGCache's prefix-aware form of it (ALGORITHMS 3.2).

The clock is the tier's own and rises to the value of what is evicted, so that what was once used
often does not stay for ever.
"""

from kvstore.costs import PrefillProfile
from kvstore.policies.nodes import Node
from kvstore.policies.ranked import RankedPolicy


class Gdsf(RankedPolicy):
    """Clock + uses x cost / size; the cost is that of computing the segment with nothing cached."""

    def __init__(self, profile: PrefillProfile, looks_ahead: bool = False) -> None:
        super().__init__(looks_ahead)
        self._profile = profile
        self._clock = 0.0
        self._alone: dict[int, float] = {}  # cost per token of a segment of so many, by itself

    def value(self, node: Node) -> float:
        return self._clock + node.history.uses * self._cost_per_token(node)

    def loss_of(self, node: Node) -> float:
        """What is left of its value above the clock."""
        return max(0.0, node.rank[0] - self._clock)

    def evicted(self, node: Node) -> None:
        self._clock = max(self._clock, node.rank[0])

    def _cost_per_token(self, node: Node) -> float:
        num_tokens = node.entry.spec.layout.num_tokens
        if num_tokens not in self._alone:
            self._alone[num_tokens] = self._profile.seconds_per_token(0, num_tokens)
        return self._alone[num_tokens]


class Pgdsf(Gdsf):
    """Clock + uses x mean cost per token that was not cached, over the times it was computed.

    What `[system, D1, D2]` cost belongs to no segment alone; per computed token it is defined.
    """

    remembers = True

    def _cost_per_token(self, node: Node) -> float:
        return node.history.mean_cost or super()._cost_per_token(node)
