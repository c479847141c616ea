"""Which split is best for the present load, and whether it is worth a move. Pure: no clock."""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.autoscaling.config import AutoscalerConfig
from cluster.autoscaling.splits import Budget, Split

_PRESSED = 0.85
"""A pool that is less busy than this gains nothing from a move."""
MOST_GAIN = 1.0
"""Twice the load; one strange measurement counts for no more."""
_WORTH_OF_LESS = 0.1
"""GPUs are given back slowly."""


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """One pool, measured. A unit is a passage of the reranker, a request of the generator."""

    arrivals: float
    """Units per second, refused ones included."""
    completions: float
    service_s: float
    """Seconds of one replica per unit, at the batch sizes achieved."""
    waiting: float
    """Units that nobody has begun."""


@dataclass(frozen=True, slots=True)
class Load:
    rerank: PoolLoad
    generate: PoolLoad

    def needs(self, horizon_s: float) -> tuple[float, float]:
        """Replicas of each pool that would be busy all the time, queues worked off in `horizon_s`.

        What the generator sees now is what the reranker lets through: it is scaled to what it would
        see of a reranker that keeps up.
        """
        rank, write = self.rerank, self.generate
        asked = rank.arrivals + rank.waiting / horizon_s
        written = self.passed_on * asked if rank.completions else write.arrivals
        return (
            rank.service_s * asked,
            write.service_s * (written + write.waiting / horizon_s),
        )

    @property
    def passed_on(self) -> float:
        """Arrivals at the generator per unit that leaves the reranker."""
        return self.generate.arrivals / self.rerank.completions if self.rerank.completions else 0.0


@dataclass(frozen=True, slots=True)
class Choice:
    """`goal` is the split to move to: the present one where there is no reason to."""

    goal: Split
    why: str
    best: Split
    utilisation: float
    """Of the busier pool, as the split is; above 1: overload."""
    predicted: float
    """The same with `best`."""

    gain: float = 0.0
    """What the move is worth: how much more of this load `goal` sustains, at most `MOST_GAIN`."""


def choose(load: Load, now: Split, budget: Budget, config: AutoscalerConfig) -> Choice:
    """The split with the greatest min(R / t_rerank, G / t_generate) for this mix, if it gains more
    than the hysteresis, something waits for it, and the move pays within the horizon."""
    needs = load.needs(config.horizon_s)
    candidates = sorted(budget.splits(), key=lambda split: split.distance(now))
    if budget.floor is None:
        best = min(candidates, key=lambda split: _utilisation(split, needs))
    else:
        best = _cheapest(candidates, now, budget, needs, config)
    before, after = _utilisation(now, needs), _utilisation(best, needs)

    def decided(goal: Split, why: str, gain: float = 0.0) -> Choice:
        return Choice(goal, why, best, before, after, min(gain, MOST_GAIN))

    if best == now:
        return decided(now, "best split")
    if budget.floor is not None and budget.taken(best) != budget.taken(now):
        more = budget.taken(best) > budget.taken(now)
        return decided(best, "total", MOST_GAIN if more else _WORTH_OF_LESS + config.hysteresis)
    if before < _PRESSED:
        return decided(now, "not busy")
    if not (load.rerank.waiting or load.generate.waiting):
        return decided(now, "nothing waits")
    if before <= (1 + config.hysteresis) * after:
        return decided(now, "gain within hysteresis")
    if _outcome(load, best, now, config) < _outcome(load, now, now, config):
        return decided(now, "does not pay")
    return decided(best, "gain", before / after - 1 if after else MOST_GAIN)


def _utilisation(split: Split, needs: tuple[float, float]) -> float:
    """Of the busier pool: the inverse of how many times the load it sustains."""
    return max(needs[0] / split.rerank, needs[1] / split.generate)


def _cheapest(
    candidates: Sequence[Split],
    now: Split,
    budget: Budget,
    needs: tuple[float, float],
    config: AutoscalerConfig,
) -> Split:
    """With a total that may change: the fewest GPUs that are not too busy, else the least busy."""

    def suffices(split: Split) -> bool:
        fewer = budget.taken(split) < budget.taken(now)
        slack = 1 - config.hysteresis if fewer else 1.0
        return _utilisation(split, needs) <= slack * config.target_utilisation

    enough = [split for split in candidates if suffices(split)]
    if not enough:
        return min(candidates, key=lambda split: _utilisation(split, needs))
    if now in enough and all(budget.taken(s) >= budget.taken(now) for s in enough):
        return now
    return min(enough, key=lambda split: (budget.taken(split), _utilisation(split, needs)))


def _outcome(load: Load, split: Split, now: Split, config: AutoscalerConfig) -> tuple[float, float]:
    """Within the horizon, with the move begun now: units that leave the generator, then, of less
    weight, the replica seconds of work that are left, negative.

    A GPU that moves serves nobody for `switch_s`, and what its device tier had is to be filled in
    again, by those who stay and by it.
    """
    rank, write, horizon = load.rerank, load.generate, config.horizon_s
    free_r = _free(split.rerank, now.rerank, config)
    free_g = _free(split.generate, now.generate, config)
    asked = rank.waiting + rank.arrivals * horizon
    ranked = min(asked, free_r / rank.service_s) if rank.service_s else asked
    passed = load.passed_on * ranked if rank.completions else write.arrivals * horizon
    written = write.waiting + passed
    answered = min(written, free_g / write.service_s) if write.service_s else written
    each = rank.service_s + load.passed_on * write.service_s
    left = (asked - ranked) * each + (written - answered) * write.service_s
    return answered, -left


def _free(count: int, before: int, config: AutoscalerConfig) -> float:
    """Replica seconds of a pool within the horizon."""
    moved = count - before
    lost = moved * (config.switch_s + config.refill_s) if moved > 0 else -moved * config.refill_s
    return max(0.0, count * config.horizon_s - lost)
