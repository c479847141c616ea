"""Ticks, evidence, cooldown, and moves that never exceed the budget. Pure: it is told the time.

A move first shrinks, waits until the replicas that go have really gone, then grows into what they
left. Serve stops and starts replicas; here is only how many it is told to have.
"""

from dataclasses import dataclass, replace

from cluster.autoscaling.config import AutoscalerConfig
from cluster.autoscaling.decision import Choice, Load, choose
from cluster.autoscaling.splits import Budget, Split

_WEIGHT_OF_LATEST = 0.5


@dataclass(frozen=True, slots=True)
class Occupied:
    """Who may hold a GPU."""

    alive: Split
    """Replicas that start or run."""
    stopping: Split

    def held(self, targets: Split) -> Split:
        """With those that Serve will start in place of some that died."""
        return self.alive.most(targets).plus(self.stopping)


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known at one moment."""

    targets: Split
    """What Serve was told last."""
    running: Split
    occupied: Occupied | None
    """None: not known yet."""
    load: Load | None
    """None: not measured yet."""


@dataclass(frozen=True, slots=True)
class Move:
    origin: Split
    goal: Split
    since: float
    why: str
    taken_back: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to tell Serve, and for the log: which event this is, if it is one, and what it is from.

    `event`: a decision "stay" or "move"; "moved", "taken back" or "given up" when a move ends.
    """

    targets: Split
    event: str = ""
    why: str = ""
    choice: Choice | None = None


class Rebalancer:
    """One move at a time, of as many GPUs as the split differs by."""

    def __init__(self, config: AutoscalerConfig, budget: Budget) -> None:
        self._config, self._budget = config, budget
        self._move: Move | None = None
        self._evidence = 0.0
        self._direction = (False, False)
        self._next_tick = float("-inf")
        self._rested_from = float("-inf")
        self._switch_s = config.switch_s

    @property
    def moving(self) -> bool:
        """Whether `Seen.occupied` is needed."""
        return self._move is not None

    @property
    def measured_from(self) -> float:
        """What was measured before tells of another split."""
        return self._rested_from

    @property
    def switch_s(self) -> float:
        """How long moves take, as far as known."""
        return self._switch_s

    def due(self, now: float) -> bool:
        """Whether `Seen.load` is needed."""
        return self._move is None and now >= self._next_tick

    def step(self, now: float, seen: Seen) -> Verdict:
        """To be called often; decides once a tick."""
        if self._move is not None:
            return self._go_on(self._move, now, seen)
        if not self.due(now):
            return Verdict(seen.targets)
        self._next_tick = now + self._config.tick_s
        if seen.targets not in self._budget.splits():
            goal = self._nearest(seen.targets)
            return self._begin(Move(goal, goal, now, "fill the budget"), now, seen, None)
        if seen.load is None:
            return Verdict(seen.targets, "stay", "nothing measured")
        config = replace(self._config, switch_s=self._switch_s)
        choice = choose(seen.load, seen.targets, self._budget, config)
        if (hold := self._hold(choice, now, seen.targets)) is not None:
            return Verdict(seen.targets, "stay", hold, choice)
        return self._begin(Move(seen.targets, choice.goal, now, choice.why), now, seen, choice)

    def _hold(self, choice: Choice, now: float, targets: Split) -> str | None:
        """Why nothing is moved, if so. Evidence adds up while decisions go the same way, so that
        noise does not make it and a small gain takes longer than a large one."""
        config, goal = self._config, choice.goal
        if goal != targets:
            direction = (goal.rerank > targets.rerank, goal.generate > targets.generate)
            if direction != self._direction:
                self._direction, self._evidence = direction, 0.0
        gained = (choice.gain - config.hysteresis) * config.tick_s
        self._evidence = max(0.0, self._evidence + gained)
        if goal == targets:
            return choice.why
        if now < self._rested_from + config.cooldown_s:
            return "cooldown"
        if self._evidence < config.evidence_s:
            return f"evidence {self._evidence:.1f} of {config.evidence_s:g} s"
        return None

    def _nearest(self, targets: Split) -> Split:
        """Of the splits of the budget, where to begin: nothing that runs goes without need."""
        splits = self._budget.splits()
        more = [split for split in splits if split.most(targets) == split]
        return min(more or splits, key=lambda split: (split.distance(targets), split))

    def _begin(self, move: Move, now: float, seen: Seen, choice: Choice | None) -> Verdict:
        self._move, self._evidence = move, 0.0
        verdict = self._go_on(move, now, replace(seen, occupied=None))
        return replace(verdict, event="move", why=move.why, choice=choice)

    def _go_on(self, move: Move, now: float, seen: Seen) -> Verdict:
        targets = towards(move.goal, seen, self._budget)
        done = Occupied(move.goal, Split(0, 0))
        if targets == seen.running == move.goal and seen.occupied == done:
            self._move, self._rested_from = None, now
            if not move.taken_back:
                took = _WEIGHT_OF_LATEST * (now - move.since)
                self._switch_s = took + (1 - _WEIGHT_OF_LATEST) * self._switch_s
            return Verdict(targets, "taken back" if move.taken_back else "moved", move.why)
        if now < move.since + self._config.move_timeout_s:
            return Verdict(targets)
        if move.taken_back:  # Serve goes on trying; another decision may find something better
            self._move, self._rested_from = None, now
            return Verdict(targets, "given up", "timeout")
        self._move = Move(move.goal, move.origin, now, "timeout", taken_back=True)
        return Verdict(towards(move.origin, seen, self._budget), "move", "timeout")


def towards(goal: Split, seen: Seen, budget: Budget) -> Split:
    """Both pools as small as they get, then as large as what is free allows."""
    targets = seen.targets.least(goal)
    if seen.occupied is None:
        return targets
    for _ in range(goal.distance(targets)):
        for more in (
            Split(targets.rerank + 1, targets.generate),
            Split(targets.rerank, targets.generate + 1),
        ):
            if more.least(goal) == more and budget.allows(seen.occupied.held(more)):
                targets = more
    return targets
