"""How well a held-out question finds its own passage among the ones nearest to it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from actors.training.batches import compared
from actors.training.data import Examples
from actors.training.history import HeldOut

NEGATIVES = 7
"""The nearest passages that a question's own is ranked among."""
_TOGETHER = 4
"""Questions of one pass, which have passages in common."""

Scores = Callable[[Sequence[str], Sequence[str]], Tensor]


@torch.no_grad()
def measure(
    scores: Scores,
    examples: Examples,
    negatives: Sequence[Sequence[int]],
    questions: Sequence[int],
    temperature: float,
    step: int,
) -> HeldOut:
    """`negatives` are those of every question of the examples, nearest first."""
    losses, ranks = [], []
    near = [row[:NEGATIVES] for row in negatives]
    for first in range(0, len(questions), _TOGETHER):
        batch = compared(examples, near, questions[first : first + _TOGETHER])
        found = scores(
            [examples.questions[i].text for i in batch.questions],
            [examples.passages[p] for p in batch.passages],
        )
        for i, target, row in zip(batch.questions, batch.targets, found, strict=True):
            others = row[[batch.passages.index(p) for p in near[i]]]
            own = torch.cat([row[target : target + 1], others]) / temperature
            losses.append(float(-own.log_softmax(0)[0]))
            ranks.append(1 + int((others >= row[target]).sum()))
    num = len(ranks)
    return HeldOut(
        step, sum(losses) / num, sum(1 / r for r in ranks) / num, sum(r == 1 for r in ranks) / num
    )
