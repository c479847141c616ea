"""A decoder's forward pass through the cascade attention: the seam with transformers.

The attention function that `actors.engine.attention` registers calls `attend` of whatever the
cache returned; here that is the cache itself.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from actors.engine.attention import How
from actors.engine.cuda.cascade import cascade_attention
from actors.engine.cuda.inputs import PassInputs
from actors.engine.cuda.parts import CascadeParts

Attention = Callable[[Tensor, Tensor, Tensor, CascadeParts, int, How], Tensor]
"""`cascade_attention`, or `cascade_reference` where there is no triton."""


class CascadeCache(Cache):  # type: ignore[misc]  # transformers is untyped here
    """Keeps nothing: stored KV is read where it lies, new KV goes to the lanes' sinks."""

    def __init__(
        self,
        inputs: PassInputs,
        wait: Callable[[int], None] | None = None,
        attention: Attention = cascade_attention,
    ) -> None:
        """`wait(layer)` returns when what follows on the device may read that layer's KV."""
        super().__init__(layers=[])
        self._inputs, self._wait, self._attention = inputs, wait, attention

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Any, Tensor]:
        """key_states, value_states [1, Hkv, R, dh], after RoPE."""
        for rows, sink in self._inputs.sinks:
            sink[layer_idx, 0] = key_states[0, :, rows]
            sink[layer_idx, 1] = value_states[0, :, rows]
        if self._wait is not None:
            self._wait(layer_idx)
        return (self, key_states), value_states

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        """q [1, H, R, dh], k and v [1, Hkv, R, dh]; the result has the shape of q."""
        q, k, v = (t[0].transpose(0, 1) for t in (q, k, v))
        return self._attention(q, k, v, self._inputs.parts, layer, how).transpose(0, 1)[None]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


@torch.inference_mode()
def cascade_forward(
    model: Any,
    inputs: PassInputs,
    wait: Callable[[int], None] | None = None,
    attention: Attention = cascade_attention,
) -> Tensor:
    """Last hidden states [R, d] of a causal model of transformers, loaded with our attention."""
    hidden: Tensor = model.get_decoder()(
        input_ids=inputs.ids,
        position_ids=inputs.positions,
        past_key_values=CascadeCache(inputs, wait, attention),
    ).last_hidden_state
    return hidden[0]
