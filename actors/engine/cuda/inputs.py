"""What a pass reads beside weights and KV, in one block of the device: one small copy a pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from actors.engine.cuda.parts import PassShape, Segments, parts_of, words_of
from kvstore.types import Layout


@dataclass(frozen=True, slots=True)
class CascadeLane:
    """One sequence of a pass."""

    tokens: Sequence[int]
    """New tokens: the rows that are computed."""
    segments: Segments
    """KV of all that precedes them, in order of position; read in place, never written."""
    sinks: Sequence[Tensor] = ()
    """Receive the KV [L, 2, Hkv, T, dh] of the new tokens, one behind the other, on the device;
    eager passes only."""


class PassInputs:
    """Token ids, positions and parts of one pass. `fill` changes the values where they are, so a
    captured pass that was given this object reads those of its next replay."""

    def __init__(self, shape: PassShape, layout: Layout, device: torch.device) -> None:
        """`layout` is that of one token of the model's KV."""
        self.shape, self._layout, self._device = shape, layout, device
        self._block = torch.zeros(shape.num_words + 2 * shape.rows, dtype=torch.int64).to(device)
        self.ids, self.positions = self._block[shape.num_words :].view(2, 1, shape.rows)
        """[1, R] each; 0 in padding."""
        self.parts = parts_of(self._block, shape, [])
        self.sinks: list[tuple[slice, Tensor]] = []
        self.starts: list[int] = []
        """Row of each lane's first new token."""

    @classmethod
    def packed(
        cls, lanes: Sequence[CascadeLane], layout: Layout, device: torch.device
    ) -> "PassInputs":
        """Of exactly these lanes, without padding."""
        shape = PassShape.packed([x.segments for x in lanes], [len(x.tokens) for x in lanes])
        inputs = cls(shape, layout, device)
        inputs.fill(lanes)
        return inputs

    def fill(self, lanes: Sequence[CascadeLane]) -> None:
        """Take these lanes. Raises ValueError for lanes that do not fit.

        The segments are kept alive until the next `fill`.
        """
        shape = self.shape
        segments = [lane.segments for lane in lanes]
        widths = [len(lane.tokens) for lane in lanes]
        words = words_of(shape, segments, widths, self._layout, self._device)
        starts = self.starts = shape.starts(widths)[: len(lanes)]
        ids, positions = [0] * shape.rows, [0] * shape.rows
        for start, lane in zip(starts, lanes, strict=True):
            first = sum(kv.shape[3] for kv in lane.segments)
            rows = slice(start, start + len(lane.tokens))
            ids[rows] = lane.tokens
            positions[rows] = range(first, first + len(lane.tokens))
        self._block.copy_(torch.tensor([*words, *ids, *positions]))
        self.parts.segments[:] = segments
        self.sinks = []
        for at, lane in zip(starts, lanes, strict=True):
            for sink in lane.sinks:
                self.sinks.append((slice(at, at + sink.shape[3]), sink))
                at += sink.shape[3]
