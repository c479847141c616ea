"""Loads that shift between two mixes, at 0.9 of what the best split sustains of each mix."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from cluster.autoscaling.splits import Budget, Split

GPUS = 8
RERANK_HEAVY, GENERATION_HEAVY = (2.0, 1.0), (0.4, 1.6)
"""GPU seconds per request of reranker and generator."""
SHARE = 0.9
PHASE_S = 900.0
"""How long a mix stays before the next."""


@dataclass(frozen=True, slots=True)
class Load:
    """`shift(t)` in [0, 1]: from rerank-heavy to generation-heavy."""

    name: str
    shift: Callable[[float], float]
    seconds: float
    noise: float = 0.0
    """Of the arrival rate and of the service times: uniform, new every ten seconds."""

    fixed_rate: float | None = None
    """Requests per second; None: `SHARE` of what the best split sustains."""

    def service_s(self, t: float) -> tuple[float, float]:
        s = self.shift(t)
        pairs = zip(RERANK_HEAVY, GENERATION_HEAVY, strict=True)
        rank, write = ((1 - s) * a + s * b for a, b in pairs)
        return rank, write

    def rate(self, t: float) -> float:
        if self.fixed_rate is not None:
            return self.fixed_rate
        return SHARE * capacity(self.best_split(t), self.service_s(t))

    def best_split(self, t: float) -> Split:
        service = self.service_s(t)
        return max(Budget(GPUS).splits(), key=lambda split: capacity(split, service))


def capacity(split: Split, service_s: tuple[float, float]) -> float:
    """Requests per second."""
    return min(split.rerank / service_s[0], split.generate / service_s[1])


def steps(t: float) -> float:
    return float(int(t / PHASE_S) % 2)


def ramps(t: float) -> float:
    """A phase of each mix, a third of one from the one to the other."""
    cycle, third = t % (2.5 * PHASE_S), PHASE_S / 3
    if cycle < PHASE_S:
        return 0.0
    if cycle < PHASE_S + third:
        return (cycle - PHASE_S) / third
    if cycle < 2 * PHASE_S + third:
        return 1.0
    return max(0.0, 1 - (cycle - 2 * PHASE_S - third) / third)


def diurnal(t: float) -> float:
    """Night and day, a day of two hours: a wave with flat ends."""
    return 0.5 + 0.5 * math.tanh(3 * math.sin(2 * math.pi * t / 7200)) / math.tanh(3)


def bursts(t: float) -> float:
    """Rerank-heavy, with generation-heavy bursts of seven minutes, one every twenty."""
    return float(t % 1200 >= 780)


def shifting(seconds: float) -> list[Load]:
    return [Load(shift.__name__, shift, seconds) for shift in (steps, ramps, diurnal, bursts)]


def steady(seconds: float) -> list[Load]:
    """Each mix, and two between them where two splits are almost equal."""
    return [_steady(shift, seconds) for shift in (0.0, 0.3, 0.6, 1.0)]


def _steady(shift: float, seconds: float) -> Load:
    return Load(f"steady {shift:g}", lambda _: shift, seconds, noise=0.2)
