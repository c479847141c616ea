"""Least recently used first."""

from kvstore.policies.nodes import Node
from kvstore.policies.ranked import RankedPolicy


class Lru(RankedPolicy):
    def value(self, node: Node) -> float:
        return 0.0  # ties go to the least recently used, and all are ties

    def loss_of(self, node: Node) -> float:
        """The chance of the next use falls with the time since the last one."""
        return 1.0 / (1 + self.age(node))
