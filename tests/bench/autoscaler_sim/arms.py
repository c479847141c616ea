"""Who decides: nobody, the autoscaler, Serve's own autoscaling, and one who knows what comes."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ray.serve.autoscaling_policy import _apply_delay_logic
from ray.serve.config import AutoscalingConfig

from actors.work_meter import ARRIVED, BUSY_S, COMPLETED, WAITING
from cluster.autoscaling.config import AutoscalerConfig
from cluster.autoscaling.measuring import Measuring, Totals, totals
from cluster.autoscaling.rebalancer import Rebalancer, Seen, Verdict, towards
from cluster.autoscaling.splits import Budget, Split
from tests.bench.autoscaler_sim.loads import GPUS, Load, capacity
from tests.bench.autoscaler_sim.plant import HAND_OVER_S, LOAD_S, Plant, Pool

BUDGET = Budget(GPUS)
_BIN_S = 10.0


Report = tuple[float, Mapping[str, float]]
"""When, and a replica's counters."""


class Arm(Protocol):
    def __call__(self, now: float, plant: Plant) -> Split: ...


def static(now: float, plant: Plant) -> Split:
    return plant.targets


@dataclass(frozen=True, slots=True)
class _Point:
    timestamp: float
    value: float


class Ours:
    """The code that serves, fed with what replicas would report; it knows no service time."""

    def __init__(self, config: AutoscalerConfig) -> None:
        self._config = config
        self._rebalancer = Rebalancer(config, BUDGET)
        self._measuring = Measuring()
        most = int(config.window_s / config.tick_s) + 2
        self._rank: deque[Report] = deque(maxlen=most)
        self._write: deque[Report] = deque(maxlen=most)
        self.verdicts: list[tuple[float, Verdict]] = []

    def __call__(self, now: float, plant: Plant) -> Split:
        if now % self._config.tick_s < 1.0:
            self._rank.append((now, plant.rank.meter.stats()))
            self._write.append((now, plant.write.meter.stats()))
        since = max(now - self._config.window_s, self._rebalancer.measured_from)
        load = self._measuring.load(_totals(self._rank, since), _totals(self._write, since))
        seen = Seen(plant.targets, plant.running, plant.occupied, load)
        verdict = self._rebalancer.step(now, seen)
        if verdict.event:
            self.verdicts.append((now, verdict))
        return verdict.targets


def _totals(reports: Iterable[Report], since: float) -> Totals | None:
    """As of a pool with one replica that reports for all."""
    names = (ARRIVED, COMPLETED, BUSY_S, WAITING)
    return totals({n: {0: [_Point(t, own[n]) for t, own in reports]} for n in names}, since)


class ServeDefault:
    """Ray Serve's defaults for each deployment alone: requests in progress over two, averaged over
    30 s, 30 s before more, 600 s before fewer. Replicas without a GPU wait until one is free."""

    def __init__(self) -> None:
        self._config = AutoscalingConfig(min_replicas=1, max_replicas=GPUS - 1)
        self._states: list[dict[str, Any]] = [{}, {}]
        self._ongoing: deque[tuple[int, int]] = deque(maxlen=int(self._config.look_back_period_s))

    def __call__(self, now: float, plant: Plant) -> Split:
        self._ongoing.append(plant.ongoing)
        return Split(self._target(0, plant.rank, now), self._target(1, plant.write, now))

    def _target(self, stage: int, pool: Pool, now: float) -> int:
        mean = sum(both[stage] for both in self._ongoing) / len(self._ongoing)
        desired = -int(-mean // float(self._config.get_target_ongoing_requests()))
        bounded = min(GPUS - 1, max(1, desired))
        state = self._states[stage]
        target, self._states[stage] = _apply_delay_logic(
            bounded, pool.target, self._config, state, _now=now
        )
        return int(target)


class Clairvoyant:
    """Knows rates and service times of all times, pays the same for a move, and takes those moves
    that complete most: dynamic programming over splits and bins of ten seconds, without queues."""

    def __init__(self, load: Load) -> None:
        self._goals = _schedule(load)

    def __call__(self, now: float, plant: Plant) -> Split:
        goal = self._goals[min(int(now / _BIN_S), len(self._goals) - 1)]
        return towards(goal, Seen(plant.targets, plant.running, plant.occupied, None), BUDGET)

    @property
    def first(self) -> Split:
        return self._goals[0]


def _schedule(load: Load) -> list[Split]:
    """The goal of each bin."""
    splits, num = BUDGET.splits(), int(load.seconds / _BIN_S)

    def completed(i: int, split: Split) -> float:
        t = (i + 0.5) * _BIN_S
        return _BIN_S * min(load.rate(t), capacity(split, load.service_s(t)))

    lasts = round((LOAD_S + HAND_OVER_S + 1.0) / _BIN_S)
    best: list[dict[Split, tuple[float, Split]]] = [{} for _ in range(num + 1)]
    best[num] = {split: (0.0, split) for split in splits}
    for i in reversed(range(num)):
        for now in splits:
            best[i][now] = max(
                (
                    sum(
                        completed(j, now.least(goal))
                        for j in range(i, min(num, i + (lasts if goal != now else 1)))
                    )
                    + best[min(num, i + (lasts if goal != now else 1))][goal][0],
                    goal,
                )
                for goal in splits
            )
    now = max(splits, key=lambda split: best[0][split][0])
    goals: list[Split] = []
    while len(goals) < num:
        goal = best[len(goals)][now][1]
        goals += [goal] * (lasts if goal != now else 1)
        now = goal
    return goals
