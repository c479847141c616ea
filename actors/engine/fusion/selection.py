"""Which tokens of assembled passages are computed again, in sight of all before them.

A rule scores the tokens behind the first passage, whose own KV is that of a true prefix.
"""

from typing import Protocol

import torch
from torch import Tensor

from actors.engine.fusion.assembled import Assembled
from actors.engine.fusion.probe import Probe
from actors.engine.fusion.rotation import Rotation
from actors.engine.models import Decoder
from actors.engine.prompt import Tokens

_CACHEBLEND_LAYER = 1


class Selection(Protocol):
    def scores(self, prompt: Assembled, question: Tokens) -> Tensor:
        """[tokens behind the first passage], fp32: the highest are computed again. There is a
        second passage, and the question is not empty."""
        ...


def pick(selection: Selection, prompt: Assembled, question: Tokens, num: int) -> list[int]:
    """Positions, ascending, of the `num` tokens that the rule wants most; all where there are
    fewer."""
    if num <= 0 or not prompt.stale:
        return []
    first = prompt.stale[0][0]
    if num >= prompt.end - first:
        return list(range(first, prompt.end))
    found = selection.scores(prompt, question).topk(num).indices
    return sorted((found + first).tolist())


class QueryGuided:
    """Attention that the question pays in the final layer, from each passage apart: every passage
    gets the same mass (FusionRAG 3.2)."""

    def __init__(self, decoder: Decoder, rotation: Rotation) -> None:
        self._decoder = decoder
        self._layer = decoder.layout.num_layers - 1
        self._rotation = rotation.layer(self._layer)

    def scores(self, prompt: Assembled, question: Tokens) -> Tensor:
        """Keys lie at their places in the prompt, and queries move along with them: a score does
        not depend on the place."""
        asked = Probe(question, self._layer).run(self._decoder)
        queries, keys = asked.queries.float()[None], prompt.kv[self._layer, 0].float()
        moved, found = torch.empty_like(queries), []
        for start, end in prompt.stale:
            self._rotation.move(queries, start - len(prompt.prefix), out=moved)
            grouped = moved.view(len(keys), -1, *queries.shape[2:])
            logits = grouped @ keys[:, None, start:end].transpose(-1, -2) * asked.scaling
            found.append(logits.softmax(-1).sum((0, 1, 2)))
        return torch.cat(found)


class KVDeviation:
    """How far values of an early layer are from those of a full pass (CacheBlend)."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def scores(self, prompt: Assembled, question: Tokens) -> Tensor:
        fresh = Probe(prompt.tokens, _CACHEBLEND_LAYER).run(self._decoder).values
        stale = prompt.kv[_CACHEBLEND_LAYER, 1, :, : prompt.end]
        deviation = (fresh.float() - stale.float()).square().sum((0, 2))
        return deviation[prompt.stale[0][0] :]


class Heads:
    """The first tokens of every passage alike (EPIC, LegoLink)."""

    def scores(self, prompt: Assembled, question: Tokens) -> Tensor:
        return torch.cat([-torch.arange(end - start).float() for start, end in prompt.stale])


class Random:
    """The control: every rule must beat it."""

    def scores(self, prompt: Assembled, question: Tokens) -> Tensor:
        seeded = torch.Generator().manual_seed(sum(prompt.tokens))
        return torch.rand(prompt.end - prompt.stale[0][0], generator=seeded)
