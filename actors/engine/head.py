"""The output head on a few rows: log-probabilities of given tokens, never all logits at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

_ROWS = 128
"""Of one product; the last are padded. Always as many, so that a row's bits are its own."""
_COLUMNS = 4096
"""Of the vocabulary matrix, how many at a time: their logits stay in the cache until they are
normalised. Twice as fast as rows of the whole vocabulary."""


@dataclass(frozen=True, slots=True)
class Head:
    """A model's vocabulary matrix [V, d], on a device that torch computes on."""

    weight: Tensor
    bias: Tensor | None
    softcap: float | None
    scale: float = 1.0
    """Factor of all logits (Granite, Cohere), before the soft-cap."""

    @classmethod
    def of(cls, model: Any) -> "Head":
        """Of a causal language model of transformers."""
        matrix, facts = model.get_output_embeddings(), model.config.get_text_config(decoder=True)
        cap = getattr(facts, "final_logit_softcapping", None)
        return cls(matrix.weight, matrix.bias, cap, _scale(facts))

    def logits(self, hidden: Tensor) -> Tensor:
        """[R, V] in fp32, of hidden states [R, d]."""
        return self._capped(linear(hidden, self.weight, self.bias)).float()

    def scaled(self, hidden: Tensor) -> Tensor:
        """[R, V] in the model's type, before the soft-cap."""
        logits = linear(hidden, self.weight, self.bias)
        return logits if self.scale == 1.0 else logits * self.scale

    def log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """log Pr of targets [R] at hidden states [R, d], fp32."""
        total = hidden.new_empty(len(hidden), dtype=torch.float32)
        for start in range(0, len(hidden), _ROWS):
            rows = hidden[start : start + _ROWS]
            padded = pad(rows, (0, 0, 0, _ROWS - len(rows)))
            total[start : start + _ROWS] = self._logsumexp(padded)[: len(rows)]
        logits = (hidden.float() * self.weight[targets].float()).sum(-1)
        own = logits if self.bias is None else logits + self.bias[targets].float()
        return self._capped(own) - total

    def token_logits(self, hidden: Tensor, tokens: Sequence[int]) -> Tensor:
        """Logits [R, len(tokens)] of a few tokens at hidden states [R, d]: fp32, and products with
        these rows of the head alone. bf16 has steps of 0.125 between logits of 16 and 32."""
        rows = torch.tensor(list(tokens), device=hidden.device)
        bias = None if self.bias is None else self.bias[rows].float()
        return self._capped(linear(hidden.float(), self.weight[rows].float(), bias))

    def _logsumexp(self, hidden: Tensor) -> Tensor:
        """Over the whole vocabulary, [R] in fp32 (ALGORITHMS 1.7, `logsumexp_blocked`)."""
        parts = []
        for start in range(0, len(self.weight), _COLUMNS):
            columns = slice(start, start + _COLUMNS)
            bias = None if self.bias is None else self.bias[columns]
            logits = self._capped(linear(hidden, self.weight[columns], bias))
            normed = logits.log_softmax(-1, dtype=torch.float32)  # one pass; logsumexp takes three
            parts.append(logits[:, 0].float() - normed[:, 0])
        return torch.stack(parts).logsumexp(0)

    def _capped(self, logits: Tensor) -> Tensor:
        if self.scale != 1.0:
            logits = logits.float() * self.scale
        cap = self.softcap
        return logits if cap is None else cap * torch.tanh(logits.float() / cap)


def _scale(facts: Any) -> float:
    """Cohere has a factor, the Granite families a divisor; HyperCLOVA X calls its factor as they
    call their divisor."""
    factor = float(getattr(facts, "logit_scale", None) or 1.0)
    scaling = float(getattr(facts, "logits_scaling", None) or 1.0)
    return factor * scaling if facts.model_type == "hyperclovax" else factor / scaling
