"""Serve as the rebalancer sees it: a simulation in steps of half a second."""

from collections.abc import Callable

from cluster.autoscaling.config import AutoscalerConfig
from cluster.autoscaling.decision import Load
from cluster.autoscaling.rebalancer import Occupied, Rebalancer, Seen, Verdict
from cluster.autoscaling.splits import Budget, Split


class World:
    """Serve's part: replicas that take their time to start and to go, and never more than that."""

    def __init__(
        self, config: AutoscalerConfig, budget: Budget, first: Split, starts: bool = True
    ) -> None:
        self.rebalancer = Rebalancer(config, budget)
        self.budget, self.targets, self.now = budget, first, 0.0
        self.starts = starts
        self._up = {"rerank": first.rerank, "generate": first.generate}
        self._going: list[tuple[float, str]] = []
        self._starting: list[tuple[float, str]] = []
        self.events: list[tuple[float, Verdict]] = []

    @property
    def running(self) -> Split:
        return Split(self._up["rerank"], self._up["generate"])

    @property
    def occupied(self) -> Occupied:
        return Occupied(self.running.plus(_count(self._starting)), _count(self._going))

    def kill(self, name: str) -> None:
        """One dies; Serve starts another."""
        self._up[name] -= 1

    def run(self, seconds: float, measured: Load | Callable[[Split], Load]) -> None:
        """One call each half second."""
        end = self.now + seconds
        while self.now < end:
            now_load = measured if isinstance(measured, Load) else measured(self.running)
            occupied = self.occupied if self.rebalancer.moving else None
            seen = Seen(self.targets, self.running, occupied, now_load)
            verdict = self.rebalancer.step(self.now, seen)
            if verdict.event:
                self.events.append((self.now, verdict))
            self._follow(verdict.targets)
            assert min(self.targets.rerank, self.targets.generate) >= 1
            assert self.budget.allows(self.occupied.alive.plus(self.occupied.stopping))
            self.now += 0.5

    def moves(self) -> list[float]:
        return [when for when, verdict in self.events if verdict.event == "move"]

    def _follow(self, targets: Split) -> None:
        self.targets = targets
        for when, name in [due for due in self._going if due[0] <= self.now]:
            self._going.remove((when, name))
        for when, name in [due for due in self._starting if due[0] <= self.now]:
            self._starting.remove((when, name))
            self._up[name] += 1
        for name, target in (("rerank", targets.rerank), ("generate", targets.generate)):
            starting = sum(other == name for _, other in self._starting)
            while self._up[name] > target:
                self._up[name] -= 1
                self._going.append((self.now + 4.0, name))
            while self._up[name] + starting < target:
                self._starting.append((self.now + (6.0 if self.starts else 1e9), name))
                starting += 1
            while self._up[name] + starting > target and starting:
                self._starting.remove(next(due for due in self._starting if due[1] == name))
                starting -= 1


def _count(due: list[tuple[float, str]]) -> Split:
    names = [name for _, name in due]
    return Split(names.count("rerank"), names.count("generate"))
