"""Least recently used first."""

from kvstore.policies.ranked import Node, RankedPolicy


class Lru(RankedPolicy):
    def value(self, node: Node) -> float:
        return 0.0  # ties go to the least recently used, and all are ties
