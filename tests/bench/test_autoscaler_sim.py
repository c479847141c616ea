"""What the simulated cluster promises to every arm, and the decision over minutes of it."""

import pytest

from cluster.autoscaling.splits import Split
from tests.bench.autoscaler_sim import CONFIG, simulate
from tests.bench.autoscaler_sim.arms import BUDGET, Arm, Clairvoyant, Ours, ServeDefault, static
from tests.bench.autoscaler_sim.loads import GPUS, Load, capacity, steady, steps
from tests.bench.autoscaler_sim.plant import Plant

SECONDS = 1200.0


class After(Load):
    """One second each at 3.6 a second, which 4 + 4 just sustain; from the tenth minute on `then`:
    service times and rate."""

    then = (1.0, 1.0, 3.6)

    def service_s(self, t: float) -> tuple[float, float]:
        return (1.0, 1.0) if t < 600 else self.then[:2]

    def rate(self, t: float) -> float:
        return 3.6 if t < 600 else self.then[2]


class CheaperReranking(After):
    then = (0.4, 1.0, 4.5)


class LongerAnswers(After):
    then = (1.0, 1.8, 2.5)


class MoreArrivals(After):
    then = (1.0, 1.0, 7.0)


def moves(arm: Ours) -> list[float]:
    return [when for when, verdict in arm.verdicts if verdict.event == "move"]


@pytest.mark.parametrize("load", steady(SECONDS), ids=lambda load: load.name)
def test_noise_moves_nothing(load: Load) -> None:
    arm = Ours(CONFIG)
    simulate(load, arm, load.best_split(0.0), seed=3)
    assert not moves(arm)


@pytest.mark.parametrize(
    ("kind", "least"),
    [(CheaperReranking, Split(2, 5)), (LongerAnswers, Split(1, 5)), (MoreArrivals, Split(4, 4))],
)
def test_the_split_follows_a_step_of_the_load(kind: type[After], least: Split) -> None:
    """More arrivals alone are no reason: no other split sustains more of them."""
    arm, load = Ours(CONFIG), kind(kind.__name__, lambda _: 0.0, SECONDS)
    ended = simulate(load, arm, Split(4, 4), seed=5)
    assert ended.targets.most(least) == ended.targets
    assert all(600 < when < 900 for when in moves(arm)[:1])
    assert bool(moves(arm)) == (kind is not MoreArrivals)


def test_moves_keep_their_distance() -> None:
    arm = Ours(CONFIG)
    simulate(Load("often", lambda t: float(int(t / 100) % 2), SECONDS), arm, Split(4, 4), seed=1)
    begun = moves(arm)
    assert len(begun) > 3
    assert all(b - a > CONFIG.cooldown_s for a, b in zip(begun, begun[1:], strict=False))


@pytest.mark.parametrize("split", BUDGET.splits())
def test_a_static_split_completes_what_it_can(split: Split) -> None:
    """Measured without the queues that are left at the end."""
    load = Load("busy", lambda _: 0.0, SECONDS, fixed_rate=4.0)
    ended = simulate(load, static, split, seed=2)
    assert ended.in_time / SECONDS == pytest.approx(capacity(split, (2.0, 1.0)), rel=0.1)


def test_no_arm_has_more_gpus_and_only_serves_own_must_wait_for_one() -> None:
    load = Load("steps", steps, 2 * SECONDS)
    waits = []
    for arm in (Ours(CONFIG), Clairvoyant(load), ServeDefault()):
        most = 0

        def watched(now: float, plant: Plant, arm: Arm = arm) -> Split:
            nonlocal most
            most = max(most, plant.num_occupied)
            return arm(now, plant)

        ended = simulate(load, watched, Split(4, 4), seed=1)
        assert most == GPUS
        waits.append(ended.waits_for_gpu)
    assert waits[:2] == [0, 0] and waits[2] > 0
