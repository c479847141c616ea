"""Token rows of a step: every passage once, with all questions behind it.

    row n   P | passage n | instruction, cue | padding | question 1 | question 2 | ...

As in serving, what precedes a question does not depend on it. A mask keeps questions apart, so a
question more costs a row its own tokens only. Padding is masked, and positions of a question
follow the true length of what precedes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

Tokens = Sequence[int]


@dataclass(frozen=True, slots=True)
class Rows:
    """N rows of T columns for Q questions of K scored tokens together."""

    ids: Tensor
    """[N, T]"""
    positions: Tensor
    """[N, T]"""
    seen: Tensor
    """[N, 1, T, T]: whether a column (third axis) attends to another (fourth)."""
    predicting: Tensor
    """[N, K]: the column whose output predicts each scored token."""
    targets: Tensor
    """[K]: the scored tokens."""
    lengths: list[int]
    """Scored tokens of each question; they add up to K."""


def make_rows(contexts: Sequence[Tokens], questions: Sequence[Tokens]) -> Rows:
    """`contexts` end with the cue; a question's last token is scored and never an input."""
    ends = torch.tensor([len(c) for c in contexts])
    width = max(len(c) for c in contexts)
    fed = [q[:-1] for q in questions]
    firsts = list(accumulate((len(f) for f in fed), initial=width))
    total = firsts[-1]
    ids = torch.zeros(len(contexts), total, dtype=torch.long)
    positions = torch.arange(total).repeat(len(contexts), 1)
    owner = torch.full((total,), -1)
    predicting = []
    for n, context in enumerate(contexts):
        ids[n, : len(context)] = torch.tensor(context)
    for i, tokens in enumerate(fed):
        columns = slice(firsts[i], firsts[i] + len(tokens))
        ids[:, columns] = torch.tensor(tokens, dtype=torch.long)
        positions[:, columns] = ends[:, None] + torch.arange(len(tokens))
        owner[columns] = i
        own = torch.arange(firsts[i], firsts[i] + len(tokens)).repeat(len(contexts), 1)
        predicting.append(torch.cat([ends[:, None] - 1, own], dim=1))
    columns_seen = torch.arange(total)
    causal = columns_seen[:, None] >= columns_seen[None]
    together = (owner[:, None] == owner[None]) & causal
    real = columns_seen[None] < ends[:, None]
    of_context = (owner[None, :, None] >= 0) & real[:, None]
    return Rows(
        ids=ids,
        positions=positions,
        seen=(together[None] | of_context)[:, None],
        predicting=torch.cat(predicting, dim=1),
        targets=torch.tensor([token for q in questions for token in q]),
        lengths=[len(q) for q in questions],
    )
