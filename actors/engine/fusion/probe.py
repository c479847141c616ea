"""A pass that is run for what one layer computes on the way."""

from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from actors.engine.attention import How
from actors.engine.lanes import Lane
from actors.engine.models import Decoder
from actors.engine.packed import Batch
from actors.engine.prompt import Tokens


class _EnoughError(Exception):
    """The layer has been reached: those behind it are not computed."""


@dataclass(frozen=True, slots=True)
class Seen:
    queries: Tensor
    """[H, T, dh], after RoPE."""
    values: Tensor
    """[Hkv, T, dh]"""
    scaling: float
    """Of the attention's logits."""


class Probe:
    """A text of its own, behind nothing, up to the attention of one layer."""

    def __init__(self, tokens: Tokens, layer: int) -> None:
        self._batch, self._layer = Batch([Lane(tokens)]), layer
        self._seen: Seen | None = None
        self.invariant = False

    @torch.inference_mode()
    def run(self, decoder: Decoder) -> Seen:
        """Raises ValueError where the model has no such layer."""
        with suppress(_EnoughError):
            decoder.forward(self)
        if self._seen is None:
            raise ValueError(f"layer {self._layer} is not one of {decoder.layout.num_layers}")
        return self._seen

    @property
    def num_new(self) -> int:
        return self._batch.num_new

    def token_ids(self) -> list[int]:
        return self._batch.token_ids()

    def position_ids(self) -> list[int]:
        return self._batch.position_ids()

    def arrive(self, layer: int) -> bool:
        return True

    def keep(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Nothing is kept."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        if layer == self._layer:
            self._seen = Seen(q[0], v[0], how.scaling)
            raise _EnoughError
        return self._batch.attend(layer, q, k, v, how)
