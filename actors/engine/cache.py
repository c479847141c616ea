"""The seam with transformers that takes a pass's new keys and values."""

from typing import Any

from torch import Tensor
from transformers import Cache

from actors.engine.packed import Batch


class LayerLostError(Exception):
    """Stored KV was promised and did not come: compute without it."""


class PackedCache(Cache):  # type: ignore[misc]  # transformers is untyped here
    """Takes the new keys and values of each layer, and hands the batch to our attention function.

    transformers' own caches concatenate: they would copy every stored byte once a layer.
    """

    def __init__(self, batch: Batch) -> None:
        super().__init__(layers=[])
        self._batch = batch

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Any, Tensor]:
        """key_states, value_states [1, Hkv, R, dh], after RoPE."""
        batch = self._batch
        if not batch.arrive(layer_idx):
            raise LayerLostError(f"layer {layer_idx} of stored KV did not arrive")
        for lane, first in zip(batch.lanes, batch.starts, strict=False):
            at = first
            for sink in lane.sinks:
                end = at + sink.shape[3]
                sink[layer_idx, 0] = key_states[0, :, at:end]
                sink[layer_idx, 1] = value_states[0, :, at:end]
                at = end
        return (batch, key_states), value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0
