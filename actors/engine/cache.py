"""The seam with transformers that takes a pass's new keys and values."""

from typing import Any, Protocol

from torch import Tensor
from transformers import Cache

from actors.engine.attention import How


class LayerLostError(Exception):
    """Stored KV was promised and did not come: compute without it."""


class RowBatch(Protocol):
    """The rows of one pass, and what they attend to."""

    invariant: bool
    """See `packed.Batch`."""

    def arrive(self, layer: int, /) -> bool:
        """Returns when the stored KV of a layer is in place, called before it is read; False when
        it will not be: the pass ends with LayerLostError."""
        ...

    @property
    def num_new(self) -> int:
        """Rows of new tokens; padding may follow them."""
        ...

    def token_ids(self) -> list[int]: ...

    def position_ids(self) -> list[int]: ...

    def keep(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Store the new keys and values [1, Hkv, R, dh] of a layer, after RoPE."""
        ...

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        """Queries [1, H, R, dh] over what is stored and new; [1, H, R, dh]."""
        ...


class PackedCache(Cache):  # type: ignore[misc]  # transformers is untyped here
    """Takes the new keys and values of each layer, and hands the batch to our attention function.

    transformers' own caches concatenate: they would copy every stored byte once a layer.
    """

    def __init__(self, batch: RowBatch) -> None:
        super().__init__(layers=[])
        self._batch = batch

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Any, Tensor]:
        """key_states, value_states [1, Hkv, R, dh], after RoPE."""
        batch = self._batch
        if not batch.arrive(layer_idx):
            raise LayerLostError(f"layer {layer_idx} of stored KV did not arrive")
        batch.keep(layer_idx, key_states, value_states)
        return (batch, key_states), value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0
