"""What a request wants of its answer's tokens, as changes of their logits: biases and penalties.

bias         logit + bias
repetition   logit / penalty where it is above 0, else logit x penalty: tokens of prompt and answer
frequency    logit - penalty x how often the answer has the token
presence     logit - penalty, for tokens that the answer has
"""

from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor

from actors.messages import Sampling


class Shaping:
    """Of one answer. The logits that it is given stay as they are: other answers' stand beside
    them."""

    def __init__(self, sampling: Sampling, prompt: Iterable[int]) -> None:
        self._sampling = sampling
        self._bias = dict(sampling.logit_bias)
        self._seen = dict.fromkeys(prompt if sampling.repetition_penalty != 1 else ())
        self._counts = Counter[int]()

    @classmethod
    def of(cls, sampling: Sampling, prompt: Iterable[int]) -> "Shaping | None":
        """None where logits stay as they are."""
        neutral = (
            not sampling.logit_bias
            and sampling.repetition_penalty == 1
            and sampling.frequency_penalty == sampling.presence_penalty == 0
        )
        return None if neutral else cls(sampling, prompt)

    def shaped(self, logits: Tensor) -> Tensor:
        """Of the next token, [vocabulary]."""
        logits = logits.clone()
        if self._bias:
            ids = _ids(self._bias, logits)
            logits[ids] += torch.tensor([*self._bias.values()], device=logits.device)
        if self._seen:
            ids, penalty = _ids(self._seen, logits), self._sampling.repetition_penalty
            seen = logits[ids]
            logits[ids] = torch.where(seen > 0, seen / penalty, seen * penalty)
        if self._counts:
            ids = _ids(self._counts, logits)
            counts = torch.tensor([*self._counts.values()], device=logits.device)
            logits[ids] -= self._sampling.frequency_penalty * counts
            logits[ids] -= self._sampling.presence_penalty
        return logits

    def took(self, token: int) -> None:
        if self._sampling.repetition_penalty != 1:
            self._seen[token] = None
        if self._sampling.frequency_penalty or self._sampling.presence_penalty:
            self._counts[token] += 1


def _ids(tokens: Iterable[int], like: Tensor) -> Tensor:
    return torch.tensor([*tokens], dtype=torch.long, device=like.device)
