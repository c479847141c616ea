"""Where every lane of a pass finds its rows and its stored KV: what the cascade kernel reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from actors.engine.models import TORCH_DTYPES
from kvstore.types import Layout

Segments = Sequence[Tensor]
"""Stored KV of one lane in order of position, each [L, 2, Hkv, T, dh] after RoPE."""
ALIGNMENT = 16
"""Bytes: the kernel loads this much at a time."""


@dataclass(frozen=True, slots=True)
class CascadeParts:
    """Of one pass; all tensors are int64 on its device. Row r of the pass is new token
    `r - starts[n]` of lane n; rows from `starts[n] + widths[n]` to `starts[n + 1]` are padding.
    """

    table: Tensor
    """[N, P] addresses of segments; read only where `lengths` says so."""
    strides: Tensor
    """[N, P] bytes from one layer of a segment to the next."""
    lengths: Tensor
    """[N, P] tokens; 0 where a lane has no such part."""
    starts: Tensor
    """[N + 1] first row of every lane; the last entry is the number of rows."""
    widths: Tensor
    """[N] new tokens."""
    max_width: int
    """Rows of a lane at most, padding included."""
    num_rows: int
    segments: list[Segments]
    """What `table` points to, so that it lives as long; the reference reads these."""

    @property
    def num_lanes(self) -> int:
        return self.table.shape[0]

    @property
    def num_parts(self) -> int:
        return self.table.shape[1]


@dataclass(frozen=True, slots=True)
class PassShape:
    """Sizes of a pass: what it is captured for."""

    lanes: int
    parts: int
    width: int
    """Rows of a lane at most."""
    rows: int
    """`lanes * width` where every lane has as many rows, else those of the lanes as they are."""

    @classmethod
    def packed(cls, segments: Sequence[Segments], widths: Sequence[int]) -> "PassShape":
        """Exactly these lanes, without padding. Raises ValueError without a lane."""
        if not widths:
            raise ValueError("a pass needs at least one lane")
        parts = max(1, *(len(s) for s in segments))
        return cls(len(widths), parts, max(widths), sum(widths))

    @property
    def num_words(self) -> int:
        """Of the block that `parts_of` takes its tensors from."""
        return 3 * self.lanes * self.parts + 2 * self.lanes + 1

    def starts(self, widths: Sequence[int]) -> list[int]:
        """First row of every lane, and the end; lanes past the given ones are empty."""
        if self.rows == self.lanes * self.width:
            return list(range(0, self.rows + 1, self.width))
        starts = [0]
        for width in widths:
            starts.append(starts[-1] + width)
        return starts


def parts_of(block: Tensor, shape: PassShape, segments: list[Segments]) -> CascadeParts:
    """Views of an int64 block that begins with the words of `words_of`."""
    cells = shape.lanes * shape.parts
    table, strides, lengths = block[: 3 * cells].view(3, shape.lanes, shape.parts)
    starts = block[3 * cells :][: shape.lanes + 1]
    widths = block[3 * cells + shape.lanes + 1 :][: shape.lanes]
    return CascadeParts(table, strides, lengths, starts, widths, shape.width, shape.rows, segments)


def words_of(
    shape: PassShape,
    segments: Sequence[Segments],
    widths: Sequence[int],
    layout: Layout,
    device: torch.device,
) -> list[int]:
    """Table, strides, lengths, starts, widths, in this order. Raises ValueError for what does not
    fit the shape and for a segment that the kernel cannot read in place."""
    if len(segments) != len(widths) or len(widths) > shape.lanes:
        raise ValueError(
            f"{len(segments)} lanes of segments, {len(widths)} widths: equally many are wanted, "
            f"{shape.lanes} at most"
        )
    if not all(1 <= width <= shape.width for width in widths):
        raise ValueError(f"widths {list(widths)}: 1 to {shape.width} are allowed")
    cells = shape.lanes * shape.parts
    table, strides, lengths = [0] * cells, [0] * cells, [0] * cells
    for n, lane in enumerate(segments):
        if len(lane) > shape.parts:
            raise ValueError(f"lane {n} has {len(lane)} parts, at most {shape.parts} fit")
        for cell, kv in enumerate(lane, n * shape.parts):
            _check(kv, layout, device, n)
            table[cell], lengths[cell] = kv.data_ptr(), kv.shape[3]
            strides[cell] = kv.stride(0) * kv.element_size()
    absent = [0] * (shape.lanes - len(widths))
    return [*table, *strides, *lengths, *shape.starts(widths), *widths, *absent]


def cascade_parts(
    segments: Sequence[Segments], widths: Sequence[int], layout: Layout, device: torch.device
) -> CascadeParts:
    """Of a packed pass: lane n has `widths[n]` new tokens behind `segments[n]`.

    A segment may be strided between its layers, nowhere else. Raises ValueError.
    """
    shape = PassShape.packed(segments, widths)
    words = words_of(shape, segments, widths, layout, device)
    return parts_of(torch.tensor(words, device=device), shape, list(segments))


def _check(kv: Tensor, layout: Layout, device: torch.device, lane: int) -> None:
    inner = layout.num_kv_heads * kv.shape[3] * layout.head_dim
    wanted = (layout.num_layers, 2, layout.num_kv_heads, kv.shape[3], layout.head_dim)
    if kv.shape != wanted or kv.dtype != TORCH_DTYPES[layout.dtype] or kv.device != device:
        raise ValueError(
            f"lane {lane}: segment {list(kv.shape)} of {kv.dtype} on {kv.device}, wanted "
            f"{list(wanted)} of {layout.dtype} on {device}"
        )
    rows = (inner, kv.shape[3] * layout.head_dim, layout.head_dim, 1)
    step = kv.stride(0) * kv.element_size()
    if kv.numel() and (kv.stride()[1:] != rows or step % ALIGNMENT or kv.data_ptr() % ALIGNMENT):
        raise ValueError(
            f"lane {lane}: segment with strides {kv.stride()} at {kv.data_ptr():#x}: its layers "
            f"must be contiguous and begin at multiples of {ALIGNMENT} bytes"
        )
