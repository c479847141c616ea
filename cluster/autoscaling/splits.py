"""How a budget of GPUs can be split between the two pools."""

import math
from dataclasses import dataclass

_EPSILON = 1e-6
"""Ten replicas of 0.1 GPUs fit into one."""


@dataclass(frozen=True, slots=True, order=True)
class Split:
    """Replicas of each pool."""

    rerank: int
    generate: int

    def least(self, other: "Split") -> "Split":
        """What both have."""
        return Split(min(self.rerank, other.rerank), min(self.generate, other.generate))

    def most(self, other: "Split") -> "Split":
        return Split(max(self.rerank, other.rerank), max(self.generate, other.generate))

    def plus(self, other: "Split") -> "Split":
        return Split(self.rerank + other.rerank, self.generate + other.generate)

    def distance(self, other: "Split") -> int:
        return abs(self.rerank - other.rerank) + abs(self.generate - other.generate)


@dataclass(frozen=True, slots=True)
class Budget:
    """GPUs in all, and what one replica of each pool takes. With `floor`, any total from there."""

    gpus: float
    rerank: float = 1.0
    generate: float = 1.0
    floor: float | None = None

    def taken(self, split: Split) -> float:
        return split.rerank * self.rerank + split.generate * self.generate

    def allows(self, split: Split) -> bool:
        return self.taken(split) <= self.gpus + _EPSILON

    def splits(self) -> list[Split]:
        """At least one replica of each. Without a floor only those to which none can be added;
        empty when not even one of each fits."""
        most = self._fit(self.gpus - self.generate, self.rerank)
        full = [
            Split(r, self._fit(self.gpus - r * self.rerank, self.generate))
            for r in range(1, most + 1)
        ]
        full = [split for split in full if split.generate >= 1]
        if self.floor is None:
            return [s for s in full if not self.allows(Split(s.rerank + 1, s.generate))]
        every = [Split(s.rerank, g) for s in full for g in range(1, s.generate + 1)]
        return [s for s in every if self.taken(s) >= self.floor - _EPSILON]

    @staticmethod
    def _fit(gpus: float, each: float) -> int:
        return max(0, math.floor(gpus / each + _EPSILON))
