"""From counters to loads."""

from dataclasses import dataclass

import pytest

from actors.work_meter import ARRIVED, BUSY_S, COMPLETED, WAITING
from cluster.autoscaling.measuring import Measuring, Metrics, Totals, totals


@dataclass(frozen=True, slots=True)
class Point:
    timestamp: float
    value: float


def series(*values: float) -> list[Point]:
    """A value each second."""
    return [Point(float(i), value) for i, value in enumerate(values)]


def metrics(**replicas: tuple[list[float], list[float], list[float], list[float]]) -> Metrics:
    names = (ARRIVED, COMPLETED, BUSY_S, WAITING)
    return {n: {r: series(*v[i]) for r, v in replicas.items()} for i, n in enumerate(names)}


ONE = ([0.0, 4, 8], [0.0, 3, 6], [0.0, 0.9, 1.8], [0.0, 1, 2])


def test_rates_are_differences_of_all_replicas() -> None:
    found = totals(metrics(a=ONE, b=ONE), since=0.0)
    assert found == Totals(arrivals=8.0, completions=6.0, busy=1.8, waiting=2.0)


def test_only_the_window_counts() -> None:
    jump = ([0.0, 100, 104], [0.0, 100, 102], [0.0, 50, 50.6], [9.0, 1, 1])
    found = totals(metrics(a=jump), since=1.0)
    assert found is not None
    assert (found.arrivals, found.completions, found.waiting) == (4.0, 2.0, 1.0)
    assert found.busy == pytest.approx(0.6)


def test_a_replica_that_has_said_one_thing_tells_no_rate() -> None:
    young = ([5.0], [5.0], [5.0], [5.0])
    assert totals(metrics(a=young), 0.0) is None
    assert totals(metrics(a=ONE, b=young), 0.0) == totals(metrics(a=ONE), 0.0)
    assert totals({}, 0.0) is None


def test_the_service_time_is_busy_time_per_unit_and_is_remembered() -> None:
    measuring = Measuring()
    busy, stuck = Totals(2.0, 2.0, 1.0, 0.0), Totals(2.0, 0.0, 1.0, 60.0)
    first = measuring.load(busy, busy)
    assert first is not None and first.rerank.service_s == 0.5
    later = measuring.load(stuck, busy)
    assert later is not None and later.rerank.service_s == 0.5, "none completed: as before"


def test_nothing_is_said_of_work_whose_time_is_unknown() -> None:
    idle, stuck = Totals(0.0, 0.0, 0.0, 0.0), Totals(2.0, 0.0, 1.0, 60.0)
    assert Measuring().load(stuck, idle) is None
    assert Measuring().load(None, idle) is None
    loaded = Measuring().load(idle, idle)
    assert loaded is not None and loaded.needs(60.0) == (0.0, 0.0)
