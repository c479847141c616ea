"""Passes of a batch on a GPU: graphs where all KV is there, else layer by layer as it comes."""

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor

from actors.engine.cache import LayerLostError, RowBatch
from actors.engine.cuda.cascade import cascade_attention
from actors.engine.cuda.forward import Attention, cascade_forward
from actors.engine.cuda.graphs import GraphRunner, Record
from actors.engine.cuda.head import target_log_probs
from actors.engine.cuda.inputs import CascadeLane, PassInputs
from actors.engine.cuda.loader import LayerLoader
from actors.engine.lanes import Lane
from actors.engine.packed import Batch
from kvstore.types import Layout


class CudaRunner:
    """What `Decoder.forward` does on a GPU. KV may lie there (device tier, computed before) or in
    the host's arena; the latter is copied while the pass computes. For one thread."""

    def __init__(
        self,
        model: Any,
        layout: Layout,
        device: torch.device,
        attention: Attention = cascade_attention,
        record: Record | None = None,
        loader: LayerLoader | None = None,
    ) -> None:
        """`layout` is that of one token of the model's KV; the last two are CUDA's unless given."""
        self._model, self._layout, self._device = model, layout, device
        self._attention = attention
        self._loader = loader or LayerLoader(layout, device)
        self._graphs = GraphRunner(self._eager, layout, device, record=record)

    def takes(self, batch: RowBatch) -> TypeGuard[Batch]:
        """Whether the kernel can read the stored KV: each layer in one piece, which the growing
        buffers of decoding are not."""
        return isinstance(batch, Batch) and all(
            lane.joined is None and all(kv[0].is_contiguous() for kv in _segments(batch, lane))
            for lane in batch.lanes
        )

    def forward(self, batch: Batch) -> Tensor:
        """Last hidden states [R, d] of all new tokens, in lane order; sinks are filled. Raises
        LayerLostError."""
        segments = [_segments(batch, lane) for lane in batch.lanes]
        host = {id(kv): kv for lane in segments for kv in lane if kv.device.type == "cpu"}
        if host or any(lane.sinks for lane in batch.lanes):
            return self._loaded(batch, segments, list(host.values()))
        lanes = [
            CascadeLane(lane.tokens, kvs) for lane, kvs in zip(batch.lanes, segments, strict=True)
        ]
        hidden = self._graphs.run(lanes)
        starts = torch.tensor(hidden.starts, device=self._device)
        widths = torch.tensor([len(lane.tokens) for lane in lanes], device=self._device)
        shift = starts - torch.tensor(batch.starts[:-1], device=self._device)
        rows = torch.arange(batch.starts[-1], device=self._device)
        return hidden.states[rows + shift.repeat_interleave(widths)]

    def log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """log Pr of targets [R] at hidden states [R, d], fp32."""
        return target_log_probs(self._model, hidden, targets)

    def _eager(self, inputs: PassInputs) -> Tensor:
        return cascade_forward(self._model, inputs, attention=self._attention)

    def _loaded(
        self, batch: Batch, segments: Sequence[Sequence[Tensor]], host: Sequence[Tensor]
    ) -> Tensor:
        def arrived(layer: int) -> None:
            if not batch.arrive(layer):
                raise LayerLostError(f"layer {layer} of stored KV did not arrive")

        loading = self._loader.begin(host, arrived)
        slots = {id(kv): slot for kv, slot in zip(host, loading.slots, strict=True)}
        lanes = [
            CascadeLane(lane.tokens, [slots.get(id(kv), kv) for kv in kvs], lane.sinks)
            for lane, kvs in zip(batch.lanes, segments, strict=True)
        ]
        inputs = PassInputs.packed(lanes, self._layout, self._device)
        return cascade_forward(self._model, inputs, loading.wait, self._attention)


def _segments(batch: Batch, lane: Lane) -> list[Tensor]:
    shared = [] if batch.shared is None else [batch.shared]
    return [kv for kv in (*shared, *lane.past) if kv.shape[3]]
