"""What computing tokens costs: seconds of a prefill by cached and new tokens, as measured."""

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from kvstore.errors import StoreConfigError

_MAX_CHARS = 2**22
"""Of a profile's file."""


@dataclass(frozen=True, slots=True)
class PrefillProfile:
    """Seconds on a grid, linear between its points and clamped at its edges (ALGORITHMS 3.2)."""

    cached: tuple[int, ...]
    new: tuple[int, ...]
    grid: tuple[tuple[float, ...], ...]
    """[cached][new]"""

    def __post_init__(self) -> None:
        for name in ("cached", "new"):
            axis = getattr(self, name)
            if not axis or list(axis) != sorted(set(axis)) or axis[0] < 0:
                raise ValueError(f"{name} is {list(axis)}, must be rising numbers of tokens")
        if [len(row) for row in self.grid] != [len(self.new)] * len(self.cached):
            raise ValueError("grid must have a row for each of cached, with a time for each of new")
        if not all(0 < seconds < math.inf for row in self.grid for seconds in row):
            raise ValueError("grid must hold finite seconds above 0")

    def seconds(self, num_cached: int, num_new: int) -> float:
        """Of one pass over `num_new` tokens behind `num_cached`."""
        i, x = _place(self.cached, num_cached)
        j, y = _place(self.new, num_new)
        rows = self.grid[i : i + 2] if x else self.grid[i : i + 1] * 2
        low, high = (_between(row[j], row[j + 1] if y else row[j], y) for row in rows)
        return _between(low, high, x)

    def seconds_per_token(self, num_cached: int, num_new: int) -> float:
        """The share of one of the new tokens."""
        return self.seconds(num_cached, num_new) / max(1, num_new)

    @classmethod
    def default(cls) -> Self:
        """Of a small model on a CPU: 10 ms a pass, 0.8 ms a token, and its share of attention."""
        axis = (0, 64, 256, 1024, 4096, 16384)

        def seconds(a: int, b: int) -> float:
            return 0.01 + 8e-4 * b + 2.5e-7 * b * (a + b / 2)

        return cls(axis, axis[1:], tuple(tuple(seconds(a, b) for b in axis[1:]) for a in axis))

    @classmethod
    def read(cls, path: Path) -> Self:
        """From JSON with `cached`, `new` and `grid`. Raises StoreConfigError."""
        try:
            found = json.loads(_text_of(path))
            rows = tuple(tuple(float(seconds) for seconds in row) for row in found["grid"])
            return cls(tuple(map(int, found["cached"])), tuple(map(int, found["new"])), rows)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreConfigError(
                f"store.prefill_profile {path}: {error}; needs JSON with cached, new and grid"
            ) from error


def _text_of(path: Path) -> str:
    """Raises ValueError for a file that is longer than any profile."""
    with path.open(encoding="utf-8") as file:
        text = file.read(_MAX_CHARS + 1)
    if len(text) > _MAX_CHARS:
        raise ValueError(f"has more than {_MAX_CHARS} characters")
    return text


def _place(axis: Sequence[int], value: int) -> tuple[int, float]:
    """Index of the point at or below, and how far it is to the next, in [0, 1)."""
    if value <= axis[0]:
        return 0, 0.0
    if value >= axis[-1]:
        return len(axis) - 1, 0.0
    i = bisect_right(axis, value) - 1
    return i, (value - axis[i]) / (axis[i + 1] - axis[i])


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share
