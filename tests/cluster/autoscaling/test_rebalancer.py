"""Moves in time: evidence, cooldown, the budget at every moment, what fails."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.autoscaling.config import AutoscalerConfig
from cluster.autoscaling.decision import Load
from cluster.autoscaling.rebalancer import Occupied, Rebalancer, Seen
from cluster.autoscaling.splits import Budget, Split
from tests.cluster.autoscaling.loads import load
from tests.cluster.autoscaling.world import World

CONFIG = AutoscalerConfig(tick_s=1.0, window_s=5.0, evidence_s=3.0, cooldown_s=20.0)
RERANK_HEAVY, GENERATION_HEAVY = load(0.9, 2.0, 1.0), load(1.1, 0.4, 1.6)


def test_a_shift_moves_a_gpu_there_and_back_once_each() -> None:
    world = World(CONFIG, Budget(3), Split(2, 1))
    world.run(30, RERANK_HEAVY)
    assert not world.moves()
    world.run(60, GENERATION_HEAVY)
    assert world.running == Split(1, 2) and len(world.moves()) == 1
    world.run(60, RERANK_HEAVY)
    assert world.running == Split(2, 1) and len(world.moves()) == 2
    assert [v.event for _, v in world.events if v.event != "stay"] == ["move", "moved"] * 2


def test_one_move_in_a_cooldown_however_the_load_jumps() -> None:
    world = World(CONFIG, Budget(3), Split(2, 1))
    for _ in range(20):
        world.run(7, GENERATION_HEAVY)
        world.run(7, RERANK_HEAVY)
    ends = [when for when, verdict in world.events if verdict.event == "moved"]
    starts = world.moves()[1:]
    assert starts and all(b - a >= CONFIG.cooldown_s for a, b in zip(ends, starts, strict=False))
    hasty = World(replace(CONFIG, cooldown_s=0.0), Budget(3), Split(2, 1))
    for _ in range(20):
        hasty.run(7, GENERATION_HEAVY)
        hasty.run(7, RERANK_HEAVY)
    assert len(hasty.moves()) > len(world.moves())


@pytest.mark.parametrize(("evidence_s", "moved"), [(3.0, True), (60.0, False)])
def test_evidence_adds_up(evidence_s: float, moved: bool) -> None:
    world = World(replace(CONFIG, evidence_s=evidence_s), Budget(3), Split(2, 1))
    world.run(20, GENERATION_HEAVY)
    assert bool(world.moves()) == moved


def test_it_decides_once_a_tick() -> None:
    world = World(replace(CONFIG, tick_s=4.0), Budget(3), Split(2, 1))
    world.run(40, RERANK_HEAVY)
    assert len(world.events) == 10


def test_a_replica_that_dies_while_a_gpu_moves_only_delays_it() -> None:
    world = World(CONFIG, Budget(8), Split(5, 3))
    world.run(5, load(3.4, 0.4, 1.6))
    assert world.rebalancer.moving
    world.kill("generate")
    world.run(60, load(3.4, 0.4, 1.6))
    assert world.running == Split(2, 6) and len(world.moves()) == 1


def test_a_move_that_cannot_end_is_taken_back() -> None:
    config = replace(CONFIG, move_timeout_s=30.0, cooldown_s=1000.0)
    world = World(config, Budget(3), Split(2, 1), starts=False)
    world.run(30, GENERATION_HEAVY)
    assert world.running == Split(1, 1)
    world.starts = True
    world.run(40, GENERATION_HEAVY)
    assert world.running == Split(2, 1)
    ends = [(v.event, v.why) for _, v in world.events if v.event not in ("stay",)]
    assert ends == [("move", "gain"), ("move", "timeout"), ("taken back", "timeout")]


def test_one_that_cannot_even_be_taken_back_is_given_up() -> None:
    config = replace(CONFIG, move_timeout_s=30.0)
    world = World(config, Budget(3), Split(2, 1), starts=False)
    world.run(80, GENERATION_HEAVY)
    assert "given up" in {v.event for _, v in world.events}


def test_moves_teach_how_long_they_take() -> None:
    world = World(replace(CONFIG, switch_s=100.0, horizon_s=1000.0), Budget(3), Split(2, 1))
    world.run(60, load(1.1, 0.4, 1.6))
    assert world.running == Split(1, 2)
    assert 50 < world.rebalancer.switch_s < 60, "half of 100, half of ten and a half"


def test_a_budget_that_is_not_used_is_filled() -> None:
    world = World(CONFIG, Budget(4), Split(1, 1))
    world.run(20, RERANK_HEAVY)
    assert world.budget.taken(world.running) == 4
    assert world.events[0][1].why == "fill the budget"


def test_what_is_not_measured_moves_nothing() -> None:
    rebalancer = Rebalancer(CONFIG, Budget(3))
    verdict = rebalancer.step(0.0, Seen(Split(2, 1), Split(2, 1), None, None))
    assert (verdict.event, verdict.why) == ("stay", "nothing measured")


def test_the_total_grows_and_shrinks_between_its_bounds() -> None:
    budget = Budget(6, floor=2)
    world = World(CONFIG, budget, Split(1, 1))
    world.run(60, load(1.4, 1.0, 1.0))
    grown = budget.taken(world.running)
    assert 2 < grown <= 6
    world.run(200, load(0.1, 1.0, 1.0, (0.0, 0.0)))
    assert world.running == Split(1, 1)


def test_nothing_grows_before_what_is_held_is_known() -> None:
    rebalancer = Rebalancer(replace(CONFIG, evidence_s=0.0), Budget(3))
    seen = Seen(Split(2, 1), Split(2, 1), None, GENERATION_HEAVY)
    assert rebalancer.step(0.0, seen).targets == Split(1, 1)
    alive = Split(1, 1)
    held = replace(seen, targets=alive, running=alive, occupied=Occupied(alive, Split(1, 0)))
    assert rebalancer.step(1.0, held).targets == Split(1, 1), "one still stops"
    gone = replace(held, occupied=Occupied(alive, Split(0, 0)))
    assert rebalancer.step(2.0, gone).targets == Split(1, 2)


def test_one_that_dies_while_another_stops_keeps_its_gpu() -> None:
    """Serve will start it again: what stops is one more."""
    rebalancer = Rebalancer(replace(CONFIG, evidence_s=0.0), Budget(3))
    rebalancer.step(0.0, Seen(Split(2, 1), Split(2, 1), None, GENERATION_HEAVY))
    died = Occupied(Split(0, 1), Split(1, 0))
    seen = Seen(Split(1, 1), Split(0, 1), died, None)
    assert rebalancer.step(1.0, seen).targets == Split(1, 1)


loads = st.builds(
    load,
    st.floats(0.01, 10),
    st.floats(0.05, 3),
    st.floats(0.05, 3),
    st.tuples(st.floats(0, 20), st.floats(0, 20)),
)


@given(
    sizes=st.sampled_from([(3.0, 1.0, 1.0), (8.0, 1.0, 1.0), (2.5, 0.5, 1.0), (4.0, 1.0, 2.0)]),
    floor=st.sampled_from([None, 0.0]),
    steps=st.lists(st.tuples(loads, st.sampled_from(["", "rerank", "generate"])), max_size=6),
)
def test_budget_and_pools_hold_whatever_happens(
    sizes: tuple[float, float, float],
    floor: float | None,
    steps: list[tuple[Load, str]],
) -> None:
    """`World.run` asserts both at every step; replicas die in between."""
    budget = Budget(*sizes, floor)
    world = World(CONFIG, budget, budget.splits()[0])
    for measured, dies in steps:
        world.run(15, measured)
        if dies and getattr(world.running, dies) > 0:
            world.kill(dies)
