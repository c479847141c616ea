"""Which tokens of assembled passages are computed again, in sight of all before them.

A rule chooses among the tokens of stale passages: those behind the first, or behind a history. A
first passage right behind the prefix has the KV of a true prefix.
"""

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from actors.engine.attention import How
from actors.engine.chunks import PrefillChunks
from actors.engine.fusion.assembled import Assembled
from actors.engine.fusion.probe import Probes
from actors.engine.fusion.rotation import Rotation
from actors.engine.models import Decoder
from actors.engine.plain_text import Tokens

_CACHEBLEND_LAYER = 1


class Selection(Protocol):
    def choose(self, prompt: Assembled, question: Tokens, num: int) -> Tensor:
        """[num]: tokens, counted from the first stale one. There are more than `num`, which is
        above 0, and the question is not empty."""
        ...


def pick(selection: Selection, prompt: Assembled, question: Tokens, num: int) -> list[int]:
    """Positions, ascending, of the `num` tokens that the rule wants most; all where there are
    fewer."""
    if num <= 0 or not prompt.stale:
        return []
    first = prompt.stale[0][0]
    if num >= prompt.end - first:
        return list(range(first, prompt.end))
    return sorted((selection.choose(prompt, question, num) + first).tolist())


class Scored(ABC):
    """A rule that has a score for every token."""

    @abstractmethod
    def scores(self, prompt: Assembled, question: Tokens) -> Tensor:
        """[stale tokens], fp32."""

    def choose(self, prompt: Assembled, question: Tokens, num: int) -> Tensor:
        return self.scores(prompt, question).topk(num).indices


class QueryGuided(Scored):
    """Attention that the question, read alone, pays in the final layer, from each passage apart:
    every passage gets the same mass (FusionRAG 3.2)."""

    def __init__(
        self, decoder: Decoder, rotation: Rotation, chunks: PrefillChunks | None = None
    ) -> None:
        self._probes = Probes(decoder, chunks or PrefillChunks())
        self._layer = decoder.layout.num_layers - 1
        self._rotation = rotation.layer(self._layer)

    def scores(self, prompt: Assembled, question: Tokens) -> Tensor:
        """Keys lie at their places in the prompt, and queries move along with them: a score does
        not depend on the place."""
        seen: list[Tensor] = []
        scaling = 1.0

        def look(layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> None:
            nonlocal scaling
            if layer == self._layer:
                seen.append(q)
                scaling = how.scaling

        self._probes.alone(question, self._layer, look)
        queries = torch.cat(seen, 1)
        moved, found = torch.empty_like(queries[None], dtype=torch.float32), []
        for start, end in prompt.stale:
            self._rotation.move(queries[None], start - len(prompt.prefix), out=moved)
            keys = prompt.kv[self._layer, 0, :, start:end]
            found.append(_attention(moved[0], keys, scaling))
        return torch.cat(found)


class Attended(Scored):
    """Attention that the question pays in its place behind the assembled prompt, over the layers
    in which a model looks things up."""

    def __init__(self, decoder: Decoder, chunks: PrefillChunks) -> None:
        self._probes = Probes(decoder, chunks)
        third = decoder.layout.num_layers // 3
        self._layers = range(third, max(third + 1, 2 * third))

    def scores(self, prompt: Assembled, question: Tokens) -> Tensor:
        first, total = prompt.stale[0][0], torch.zeros(prompt.end, device=prompt.kv.device)

        def look(layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> None:
            if layer in self._layers:
                keys = prompt.kv[layer, 0, :, : prompt.end]
                total.add_(_attention(q, keys, how.scaling))

        self._probes.behind(question, prompt.kv, prompt.end, self._layers[-1], look)
        return total[first:]


class KVDeviation(Scored):
    """How far values of an early layer are from those of a full pass (CacheBlend)."""

    def __init__(self, decoder: Decoder, chunks: PrefillChunks | None = None) -> None:
        self._probes = Probes(decoder, chunks or PrefillChunks())

    def scores(self, prompt: Assembled, question: Tokens) -> Tensor:
        values: list[Tensor] = []

        def look(layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> None:
            if layer == _CACHEBLEND_LAYER:
                values.append(v)

        self._probes.alone(prompt.tokens, _CACHEBLEND_LAYER, look)
        stale = prompt.kv[_CACHEBLEND_LAYER, 1, :, : prompt.end]
        moved = (torch.cat(values, 1).float() - stale.float()).square().sum((0, 2))
        return moved[prompt.stale[0][0] :]


class Heads(Scored):
    """The first tokens of every passage alike (EPIC, LegoLink)."""

    def scores(self, prompt: Assembled, question: Tokens) -> Tensor:
        return torch.cat([-torch.arange(end - start).float() for start, end in prompt.stale])


class Random(Scored):
    """The control: every rule must beat it."""

    def scores(self, prompt: Assembled, question: Tokens) -> Tensor:
        seeded = torch.Generator().manual_seed(sum(prompt.tokens))
        return torch.rand(prompt.end - prompt.stale[0][0], generator=seeded)


class Both:
    """Half by the one rule, the rest by the other from what is left."""

    def __init__(self, first: Scored, second: Scored) -> None:
        self._first, self._second = first, second

    def choose(self, prompt: Assembled, question: Tokens, num: int) -> Tensor:
        taken = self._first.choose(prompt, question, (num + 1) // 2)
        scores = self._second.scores(prompt, question)
        scores[taken] = -torch.inf
        return torch.cat([taken, scores.topk(num - len(taken)).indices])


def _attention(q: Tensor, keys: Tensor, scaling: float) -> Tensor:
    """[S]: what queries [H, R, dh] give to each of the keys [Hkv, S, dh], summed over heads and
    rows."""
    rows = q.float().reshape(keys.shape[0], -1, q.shape[2])
    return (rows @ keys.float().transpose(1, 2) * scaling).softmax(-1).sum((0, 1))
