"""Which split is best, and when it is not worth a move."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.autoscaling.config import AutoscalerConfig
from cluster.autoscaling.decision import MOST_GAIN, Load, PoolLoad, choose
from cluster.autoscaling.splits import Budget, Split
from tests.cluster.autoscaling.loads import load

EIGHT = Budget(8)
CONFIG = AutoscalerConfig()


@pytest.mark.parametrize(
    ("t_rerank", "t_generate", "best"),
    [(2.0, 1.0, Split(5, 3)), (0.4, 1.0, Split(2, 6)), (0.4, 1.6, Split(2, 6))],
)
def test_the_best_split_is_that_of_the_mix(t_rerank: float, t_generate: float, best: Split) -> None:
    rate = 0.95 * min(best.rerank / t_rerank, best.generate / t_generate)
    for now in EIGHT.splits():
        assert choose(load(rate, t_rerank, t_generate), now, EIGHT, CONFIG).best == best


def test_longer_answers_move_gpus_to_the_generator() -> None:
    now = Split(4, 4)
    assert choose(load(3.6, 1, 1), now, EIGHT, CONFIG).goal == now
    assert choose(load(3.6, 1, 1.8), now, EIGHT, CONFIG).goal.generate > 4


def test_what_a_busy_reranker_holds_back_counts_for_the_generator() -> None:
    """It sees two a second of four that arrive: as much again will come."""
    held = Load(PoolLoad(4.0, 2.0, 1.0, 4.0), PoolLoad(2.0, 2.0, 1.0, 0.0))
    rank, write = held.needs(60.0)
    assert rank == pytest.approx(write, rel=0.01) and rank > 4.0
    alone = replace(held, rerank=PoolLoad(0.0, 0.0, 1.0, 0.0))
    assert alone.needs(60.0) == (0.0, 2.0), "chat: nothing is reranked"


def test_a_queue_is_work_of_the_horizon() -> None:
    quick, slow = (load(1, 1, 1, (60.0, 0.0)).needs(h)[0] for h in (30.0, 120.0))
    assert (quick, slow) == (3.0, 1.5)


@pytest.mark.parametrize(
    ("measured", "why"),
    [
        (load(1.0, 2.0, 1.0), "not busy"),
        (load(2.3, 2.0, 1.0, (0.0, 0.0)), "nothing waits"),
        (load(2.2, 2.0, 1.4), "gain within hysteresis"),
    ],
)
def test_reasons_to_stay(measured: Load, why: str) -> None:
    now = Split(4, 4)
    choice = choose(measured, now, EIGHT, CONFIG)
    assert (choice.goal, choice.why) == (now, why) and choice.best != now
    assert choice.gain == 0


def test_hysteresis_says_how_much_better_is_better() -> None:
    now, measured = Split(4, 4), load(2.2, 2.0, 1.4)
    eager = replace(CONFIG, hysteresis=0.0)
    assert choose(measured, now, EIGHT, eager).goal != now


def test_a_move_must_pay_within_the_horizon() -> None:
    """Of three GPUs one is away for the time of the move: dear, when the horizon is short."""
    three, now, measured = Budget(3), Split(1, 2), load(0.62, 1.9, 1.0)
    assert choose(measured, now, three, CONFIG).goal == Split(2, 1)
    slow = replace(CONFIG, switch_s=58.0)
    assert choose(measured, now, three, slow).why == "does not pay"
    cold = replace(CONFIG, refill_s=45.0)
    assert choose(measured, now, three, cold).why == "does not pay"
    assert choose(measured, now, three, replace(slow, horizon_s=300.0)).goal == Split(2, 1)


def test_one_strange_measurement_counts_for_no_more_than_twice_the_load() -> None:
    assert choose(load(100.0, 1.0, 0.01), Split(1, 7), EIGHT, CONFIG).gain == MOST_GAIN


def test_the_total_follows_the_load() -> None:
    budget = Budget(8, floor=2)
    idle = choose(load(0.0, 1.0, 1.0, (0.0, 0.0)), Split(4, 4), budget, CONFIG)
    assert idle.goal == Split(1, 1), "the floor"
    busy = choose(load(2.9, 1.0, 1.0, (0.0, 0.0)), Split(2, 2), budget, CONFIG)
    assert busy.goal == Split(4, 4) and busy.gain > idle.gain
    full = choose(load(100.0, 1.0, 1.0), Split(4, 4), budget, CONFIG)
    assert full.goal == Split(4, 4), "the ceiling"


def test_a_total_that_is_just_enough_is_kept() -> None:
    """At 0.7 of four; three would be just enough, and that is no reason to give one up."""
    budget, now = Budget(8, floor=2), Split(2, 2)
    measured = load(1.4, 1.0, 1.0, (0.0, 0.0))
    assert choose(measured, now, budget, CONFIG).goal == now
    tight = replace(CONFIG, target_utilisation=0.6)
    assert budget.taken(choose(measured, now, budget, tight).goal) > 4


times = st.floats(0.01, 10)


@given(
    gpus=st.integers(2, 12),
    rate=st.floats(0, 20),
    t_rerank=times,
    t_generate=times,
    waiting=st.tuples(st.floats(0, 50), st.floats(0, 50)),
    pick=st.randoms(),
)
def test_whatever_is_measured_no_pool_is_emptied_and_the_goal_sustains_more(
    gpus: int,
    rate: float,
    t_rerank: float,
    t_generate: float,
    waiting: tuple[float, float],
    pick: random.Random,
) -> None:
    budget = Budget(gpus)
    now = pick.choice(budget.splits())
    choice = choose(load(rate, t_rerank, t_generate, waiting), now, budget, CONFIG)
    assert choice.goal in budget.splits()
    assert choice.predicted <= choice.utilisation
    if choice.goal != now:
        assert choice.utilisation > (1 + CONFIG.hysteresis) * choice.predicted
