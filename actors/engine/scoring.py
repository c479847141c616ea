"""How a candidate's score is read from the model: what follows a passage, and which rows count."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from actors.engine.models import Decoder
from actors.engine.prompt import Prompt

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Suffix:
    """What follows a passage, as token pieces."""

    fixed: Tokens
    """The same for every question: its KV is stored behind the passage."""
    fed: Tokens
    """Computed for every candidate; at least one token."""
    targets: Tokens
    """Predicted from the last fed rows; empty where the rule reads the last row only."""


class ScoringRule(Protocol):
    @property
    def fixed(self) -> Tokens:
        """`Suffix.fixed` of every question."""
        ...

    def suffix(self, question: str) -> Suffix: ...

    def num_rows(self, suffix: Suffix) -> int:
        """Last fed rows whose hidden states the rule needs."""
        ...

    def scores(self, decoder: Decoder, hidden: Tensor, suffix: Suffix) -> Tensor:
        """Scores [N] in fp32 from hidden states [N, num_rows, d] of the last fed rows."""
        ...


class QueryLikelihood:
    """Mean log-probability of the question's tokens given the passage (ALGORITHMS 1.4)."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt

    @property
    def fixed(self) -> Tokens:
        return self._prompt.rerank_suffix("")[0][:-1]

    def suffix(self, question: str) -> Suffix:
        """The last token before the question is fed: its hidden state predicts the first one."""
        before, asked = self._prompt.rerank_suffix(question)
        return Suffix(before[:-1], before[-1:] + asked[:-1], asked)

    def num_rows(self, suffix: Suffix) -> int:
        return len(suffix.targets)

    def scores(self, decoder: Decoder, hidden: Tensor, suffix: Suffix) -> Tensor:
        targets = torch.tensor(suffix.targets, device=hidden.device)
        log_probs = decoder.log_probs(hidden.flatten(0, 1), targets.repeat(len(hidden)))
        return log_probs.view(len(hidden), -1).mean(1)
