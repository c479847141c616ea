"""Counters for the autoscaler, and what a step of a full batch would have cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.work_meter import ARRIVED, BUSY_S, COMPLETED, WAITING, StepCost, WorkMeter


def test_what_has_arrived_and_not_begun_waits() -> None:
    meter = WorkMeter()
    meter.arrive(5)
    meter.begin(3)
    meter.complete(2)
    meter.work(0.5)
    assert meter.stats() == {ARRIVED: 5, COMPLETED: 2, BUSY_S: 0.5, WAITING: 2}


def test_steps_of_a_fixed_price_cost_a_share_of_a_full_batch() -> None:
    cost = StepCost(full=8)
    for batch in (1, 2, 4, 8) * 10:
        cost.in_full_batches(batch, 0.1)
    assert cost.in_full_batches(1, 0.1) == pytest.approx(0.1 / 8, rel=0.01)
    assert cost.in_full_batches(8, 0.1) == pytest.approx(0.1, rel=0.01)


def test_steps_whose_price_is_that_of_their_sequences_cost_what_they_took() -> None:
    cost = StepCost(full=8)
    for batch in (1, 2, 4, 8) * 10:
        cost.in_full_batches(batch, 0.1 * batch)
    assert cost.in_full_batches(2, 0.2) == pytest.approx(0.2, rel=0.01)


@given(st.lists(st.tuples(st.integers(1, 8), st.floats(0.0, 10.0)), max_size=50))
def test_never_more_than_it_took(steps: list[tuple[int, float]]) -> None:
    cost = StepCost(full=8)
    for batch, seconds in steps:
        assert 0.0 <= cost.in_full_batches(batch, seconds) <= seconds
