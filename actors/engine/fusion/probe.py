"""A pass that is run for what its layers see on the way, and no further than that."""

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from actors.engine.attention import How
from actors.engine.cache import RowBatch
from actors.engine.models import Decoder

Look = Callable[[int, Tensor, Tensor, Tensor, How], None]
"""Called in every layer with its number, queries [H, R, dh] after RoPE, new keys and values
[Hkv, R, dh], and what attention does with them."""


class _EnoughError(Exception):
    """The last layer that is wanted has been seen: those behind it are not computed."""


class Probe:
    """Rows as another batch has them, up to the attention of layer `last`; all `shift` positions
    later, where that is given."""

    def __init__(self, batch: RowBatch, last: int, look: Look, shift: int = 0) -> None:
        self._batch, self._last, self._look, self._shift = batch, last, look, shift
        self.invariant = False

    @torch.inference_mode()
    def run(self, decoder: Decoder) -> None:
        """Raises ValueError where the model has no such layer."""
        if not 0 <= self._last < decoder.layout.num_layers:
            raise ValueError(f"layer {self._last} is not one of {decoder.layout.num_layers}")
        with suppress(_EnoughError):
            decoder.forward(self)

    @property
    def num_new(self) -> int:
        return self._batch.num_new

    def token_ids(self) -> list[int]:
        return self._batch.token_ids()

    def position_ids(self) -> list[int]:
        return [position + self._shift for position in self._batch.position_ids()]

    def arrive(self, layer: int) -> bool:
        return self._batch.arrive(layer)

    def keep(self, layer: int, k: Tensor, v: Tensor) -> None:
        self._batch.keep(layer, k, v)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        self._look(layer, q[0], k[0], v[0], how)
        if layer == self._last:
            raise _EnoughError
        return self._batch.attend(layer, q, k, v, how)
