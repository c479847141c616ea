"""From the counters that replicas report to the load of both pools. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from actors.work_meter import ARRIVED, BUSY_S, COMPLETED, WAITING
from cluster.autoscaling.decision import Load, PoolLoad


class Point(Protocol):
    """As Serve keeps them."""

    @property
    def timestamp(self) -> float: ...
    @property
    def value(self) -> float: ...


Metrics = Mapping[str, Mapping[object, Sequence[Point]]]
"""By name and replica, points in the order of time."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Of one pool over a window."""

    arrivals: float
    """Per second, as the next two."""
    completions: float
    busy: float
    """Replicas busy on the mean."""
    waiting: float


class Measuring:
    """Remembers each pool's last service time: a pool that completes nothing tells none."""

    def __init__(self) -> None:
        self._service_s: dict[str, float] = {}

    def load(self, rerank: Totals | None, generate: Totals | None) -> Load | None:
        """None until both pools have reported, and whatever has work has completed some."""
        if rerank is None or generate is None:
            return None
        ranked, written = self._pool("rerank", rerank), self._pool("generate", generate)
        return Load(ranked, written) if ranked and written else None

    def _pool(self, name: str, totals: Totals) -> PoolLoad | None:
        if totals.completions:
            self._service_s[name] = totals.busy / totals.completions
        known = self._service_s.get(name)
        if known is None and (totals.arrivals or totals.waiting):
            return None
        return PoolLoad(totals.arrivals, totals.completions, known or 0.0, totals.waiting)


def totals(metrics: Metrics, since: float) -> Totals | None:
    """Of all replicas, from the points after `since`. None when none has two of them."""
    sums = Totals(0.0, 0.0, 0.0, 0.0)
    found = False
    for replica, points in metrics.get(ARRIVED, {}).items():
        recent = [point for point in points if point.timestamp >= since]
        if len(recent) < 2 or recent[-1].timestamp <= recent[0].timestamp:
            continue
        found = True
        first, last = recent[0].timestamp, recent[-1].timestamp

        def rate(name: str, of: object = replica, a: float = first, b: float = last) -> float:
            own = [p.value for p in metrics[name][of] if a <= p.timestamp <= b]
            return (own[-1] - own[0]) / (b - a)

        waiting = [p.value for p in metrics[WAITING][replica] if p.timestamp >= since]
        sums = replace(
            sums,
            arrivals=sums.arrivals + rate(ARRIVED),
            completions=sums.completions + rate(COMPLETED),
            busy=sums.busy + rate(BUSY_S),
            waiting=sums.waiting + sum(waiting) / len(waiting),
        )
    return sums if found else None
