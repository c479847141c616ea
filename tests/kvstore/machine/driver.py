"""Walks through the rules by a seeded generator: as many steps as there is time for."""

import random
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.kvstore.machine.actions import ACTIONS
from tests.kvstore.machine.model import Kind, Violation
from tests.kvstore.machine.watch import look_at_everything
from tests.kvstore.machine.world import World

LIFE_STEPS = 200
"""Then the walk goes on in a new world, so that a seed names a short sequence."""


@dataclass(frozen=True, slots=True)
class Failure:
    seed: int
    kind: Kind | None
    """None for an exception that is no violation: the store raised what it does not document."""
    text: str
    trail: tuple[str, ...]
    """The steps up to it."""

    def __str__(self) -> str:
        return "\n".join((f"seed {self.seed}:", *self.trail, self.text))


@dataclass(frozen=True, slots=True)
class Walk:
    steps: int = 0
    failures: tuple[Failure, ...] = ()
    seen: Counter[str] = field(default_factory=Counter)
    """Actions that were taken, by name, and what they made the store do."""

    def __add__(self, other: "Walk") -> "Walk":
        return Walk(
            self.steps + other.steps, self.failures + other.failures, self.seen + other.seen
        )

    def count(self, kind: Kind | None) -> int:
        """Failures of this kind."""
        return sum(failure.kind == kind for failure in self.failures)


def walk(seed: int, steps: int, parent: str = "/dev/shm") -> Walk:
    """One world after the other, of `LIFE_STEPS` each, until so many steps are done."""
    done = Walk()
    while done.steps < steps:
        done += live(seed, min(LIFE_STEPS, steps - done.steps), parent)
        seed += 1
    return done


def live(seed: int, steps: int, parent: str = "/dev/shm") -> Walk:
    """One world, by this seed, below the folder `parent`. Ends at its first failure."""
    trail: list[str] = []
    failures: list[Failure] = []
    with TemporaryDirectory(dir=parent, prefix="hyperrag-machine-") as folder:
        world = World(Path(folder), seed)
        taken = Counter[str]()
        try:
            for name in _steps(world, random.Random(seed), steps, trail):
                taken[name] += 1
                look_at_everything(world)
        except Violation as violation:
            failures.append(Failure(seed, violation.kind, str(violation), tuple(trail)))
        except Exception:  # whatever the store raised: the walk's report says it
            failures.append(Failure(seed, None, traceback.format_exc(), tuple(trail)))
        world.close()
    return Walk(taken.total(), tuple(failures), taken + world.seen)


def _steps(world: World, rng: random.Random, steps: int, trail: list[str]) -> Iterator[str]:
    """So many actions that had something to do; each is on the trail before it begins."""
    weights = [action.weight for action in ACTIONS]
    while steps:
        (action,) = rng.choices(ACTIONS, weights)
        numbers = [rng.randrange(below) for below in action.ranges]
        trail.append(f"{action.name}({', '.join(map(str, numbers))})")
        if action.run(world, *numbers):
            steps -= 1
            yield action.name
        else:
            trail.pop()
