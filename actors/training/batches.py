"""Which questions and passages a step compares. Order depends on the seed and the step alone, so
that a continued run needs no state of a random generator."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from actors.training.data import Examples


@dataclass(frozen=True, slots=True)
class Batch:
    """Indices into the examples; every question is compared with every passage."""

    questions: list[int]
    passages: list[int]
    """Without repetition: positives of all questions, then their hard negatives."""
    targets: list[int]
    """For each question, where in `passages` its own stands."""


class Batches:
    """Questions of a batch are about neighbouring passages as far as there are such: each one's
    passage is then a hard negative of the others, at no cost."""

    def __init__(
        self,
        examples: Examples,
        negatives: Sequence[Sequence[int]],
        trained: Sequence[int],
        batch_questions: int,
        seed: int,
    ) -> None:
        """`negatives` are those of every question of the examples, `trained` the ones to draw."""
        self._examples, self._negatives, self._trained = examples, negatives, trained
        self._size, self._seed = min(batch_questions, len(trained)), seed
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    @property
    def per_epoch(self) -> int:
        """Steps of one epoch; questions that do not fill a batch wait for another epoch's order."""
        return len(self._trained) // self._size

    def at(self, step: int) -> Batch:
        """The batch of a step, counted from 0 over all epochs."""
        epoch, place = divmod(step, self.per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = epoch, self._drawn(random.Random(f"{self._seed} {epoch}"))
        return compared(self._examples, self._negatives, self._epoch[1][place])

    def _drawn(self, rng: random.Random) -> list[list[int]]:
        rest = list(self._trained)
        rng.shuffle(rest)
        drawn = []
        while len(rest) >= self._size:
            batch = [rest[0], *self._neighbours(rest)]
            batch += [i for i in rest if i not in batch]
            drawn.append(batch[: self._size])
            rest = [i for i in rest if i not in drawn[-1]]
        rng.shuffle(drawn)
        return drawn

    def _neighbours(self, rest: Sequence[int]) -> list[int]:
        """One question about each of the passages nearest to the first question."""
        near = dict.fromkeys(self._negatives[rest[0]])
        about: dict[int, int] = {}
        for i in rest[1:]:
            about.setdefault(self._examples.questions[i].positive, i)
        return [about[p] for p in near if p in about]


def compared(
    examples: Examples, negatives: Sequence[Sequence[int]], questions: Sequence[int]
) -> Batch:
    """These questions with the passages of all of them."""
    positives = [examples.questions[i].positive for i in questions]
    hard = [passage for i in questions for passage in negatives[i]]
    passages = list(dict.fromkeys([*positives, *hard]))
    return Batch(list(questions), passages, [passages.index(p) for p in positives])
