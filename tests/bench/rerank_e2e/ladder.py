"""The highest rate of a ladder that is sustained."""

from collections.abc import Callable, Sequence

MULTIPLES = (1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
"""Of the traditional rate, above it."""


def highest(rates: Sequence[float], sustained: Callable[[float], bool]) -> float | None:
    """By bisection, so that few are tried: what sustains a rate sustains a lower one. None where
    the lowest is not sustained."""
    low, high = -1, len(rates)
    while high - low > 1:
        middle = (low + high) // 2
        if sustained(rates[middle]):
            low = middle
        else:
            high = middle
    return None if low < 0 else rates[low]
