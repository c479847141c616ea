"""A pass that is run for what its layers see on the way, and no further than that."""

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from actors.engine.attention import How
from actors.engine.cache import RowBatch
from actors.engine.chunks import PrefillChunks
from actors.engine.fusion.sparse import SparseBatch
from actors.engine.lanes import behind
from actors.engine.models import Decoder
from actors.engine.packed import Batch
from actors.engine.plain_text import Tokens

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


class Probes:
    """Tokens in turns with the decoding of others: `look` is called for a few rows at a time."""

    def __init__(self, decoder: Decoder, chunks: PrefillChunks) -> None:
        self._decoder, self._chunks = decoder, chunks

    def alone(self, tokens: Tokens, last: int, look: Look) -> None:
        """Nothing stands before these tokens."""
        layout, size = self._decoder.layout, len(tokens)
        shape = (last + 1, 2, layout.num_kv_heads, size, layout.head_dim)
        kv = self._decoder.empty_kv(0).new_empty(shape)
        for start, end in self._chunks.passes(size):
            lane = behind(kv, start, tokens[start:end])
            self._run(Batch([lane], arrive=self._chunks.arrive), last, look)

    def behind(self, tokens: Tokens, kv: Tensor, first: int, last: int, look: Look) -> None:
        """These tokens stand at `first` of a buffer, and are written to it as far as they go."""
        for start, end in self._chunks.passes(len(tokens)):
            places = range(first + start, first + end)
            batch = SparseBatch(tokens[start:end], places, kv, self._chunks.arrive)
            self._run(batch, last, look)

    def _run(self, batch: RowBatch, last: int, look: Look) -> None:
        Probe(batch, last, look).run(self._decoder)
