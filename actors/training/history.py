"""What a run has measured. The process that continues a run adds to it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Means over the held-out questions."""

    step: int
    """Steps done when it was measured."""
    loss: float
    mrr: float
    r1: float


@dataclass(slots=True)
class History:
    losses: list[float] = field(default_factory=list)
    """One for each step."""
    held_out: list[HeldOut] = field(default_factory=list)
    """Before the first step, after each epoch and the last; empty when nothing is held out."""
    seconds: float = 0.0
    """Of training and measuring, in all processes."""

    @classmethod
    def parse(cls, plain: dict[str, Any]) -> "History":
        """The inverse of `dataclasses.asdict`."""
        rows = [HeldOut(**row) for row in plain["held_out"]]
        return cls(plain["losses"], rows, plain["seconds"])
