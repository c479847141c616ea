"""Least frequently used first, counted since the segment came in."""

from kvstore.policies.nodes import Node
from kvstore.policies.ranked import RankedPolicy


class Lfu(RankedPolicy):
    def value(self, node: Node) -> float:
        return float(node.history.uses)

    def loss_of(self, node: Node) -> float:
        return float(node.history.uses)
