"""Attention of many lanes over stored KV where it lies, in one launch a layer (ALGORITHMS 1.7)."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from actors.engine.attention import How
from actors.engine.cuda.parts import CascadeParts

MAX_HEAD_DIM = 256


class Tile(NamedTuple):
    """What one program of the kernel works on, and how it is compiled."""

    rows: int
    keys: int
    dims: int
    """Of a head, rounded up to what the tensor cores take."""
    warps: int
    stages: int


def tile_of(head_dim: int, itemsize: int, rows: int) -> Tile:
    """For lanes of up to `rows` query rows a KV head. The sizes fit a block's shared memory from
    compute capability 8.0 on, and do not spill registers. Raises ValueError for a wider head.

    fp32 is multiplied without the tensor cores, in small tiles: it is for exactness, not speed.
    """
    if head_dim > MAX_HEAD_DIM:
        raise ValueError(f"head_dim is {head_dim}, at most {MAX_HEAD_DIM} is supported")
    dims = max(16, _power_of_two(head_dim))
    if itemsize == 4:
        block = min(32, max(16, _power_of_two(rows)))
        return Tile(block, 32 if dims <= 64 else 16, dims, 4 if dims <= 64 else 8, 1)
    block = min(64 if dims > 128 else 128, max(16, _power_of_two(rows)))
    return Tile(block, 64, dims, 8 if block * dims >= 128 * 64 else 4, 2)


def _power_of_two(number: int) -> int:
    """The next one that is not smaller."""
    return 1 << (number - 1).bit_length()


def cascade_attention(
    q: Tensor, k: Tensor, v: Tensor, parts: CascadeParts, layer: int, how: How
) -> Tensor:
    """q [R, Hq, dh] over all rows of a pass, k and v [R, Hkv, dh] of its new tokens; [R, Hq, dh].

    Row r attends to all stored parts of its lane, and to the lane's new tokens up to itself, as far
    as the window reaches. Statistics in fp32. Rows and heads may be strided, head dimensions not.
    Padding rows come out as zeros. Runs where triton runs: on CUDA, and on a CPU under its
    interpreter (TRITON_INTERPRET=1 before triton is loaded).
    """
    rows, heads, head_dim = q.shape
    kv_heads = k.shape[1]
    assert rows == parts.num_rows == k.shape[0], (q.shape, k.shape, parts.num_rows)
    assert heads % kv_heads == 0 and k.shape == v.shape and k.shape[2] == head_dim
    assert q.stride(2) == k.stride(2) == v.stride(2) == 1, "head dimensions are contiguous"
    from actors.engine.cuda.kernel import cascade_kernel

    groups = heads // kv_heads
    tile = tile_of(head_dim, q.element_size(), parts.max_width * groups)
    out = torch.empty((rows, heads, head_dim), dtype=q.dtype, device=q.device)
    grid = (-(-parts.max_width * groups // tile.rows), kv_heads, parts.num_lanes)
    launch: Any = cascade_kernel[grid]
    launch(
        q, k, v, out, parts.table, parts.strides, parts.lengths, parts.starts, parts.widths,
        q if how.sinks is None else how.sinks,
        layer, parts.num_parts, kv_heads, how.scaling, how.softcap or 0.0, how.window or 0,
        *q.stride()[:2], *k.stride()[:2], *v.stride()[:2], *out.stride()[:2],
        GROUPS=groups, DH=head_dim,
        BLOCK_M=tile.rows, BLOCK_T=tile.keys, BLOCK_D=tile.dims,
        HAS_SOFTCAP=how.softcap is not None, HAS_WINDOW=how.window is not None,
        HAS_SINKS=how.sinks is not None,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out


def cascade_reference(
    q: Tensor, k: Tensor, v: Tensor, parts: CascadeParts, layer: int, how: How
) -> Tensor:
    """The same in plain PyTorch, lane by lane, from the definition: any device."""
    groups = q.shape[1] // k.shape[1]
    out = torch.zeros(q.shape, dtype=q.dtype, device=q.device)
    starts, widths = parts.starts.tolist(), parts.widths.tolist()
    for start, width, segments in zip(starts[:-1], widths, parts.segments, strict=False):
        own = slice(start, start + width)
        keys = [s[layer, 0] for s in segments] + [k[own].transpose(0, 1)]
        values = [s[layer, 1] for s in segments] + [v[own].transpose(0, 1)]
        key, value = (torch.cat(t, 1).repeat_interleave(groups, 0).float() for t in (keys, values))
        score = q[own].transpose(0, 1).float() @ key.transpose(1, 2) * how.scaling
        if how.softcap is not None:
            score = how.softcap * torch.tanh(score / how.softcap)
        at = torch.arange(key.shape[1], device=q.device)
        distance = at[-width:, None] - at[None, :]
        hidden = distance < 0
        if how.window is not None:
            hidden |= distance >= how.window
        score = score.masked_fill(hidden, -torch.inf)
        if how.sinks is not None:
            drained = how.sinks.to(score)[:, None, None].expand(-1, width, 1)
            score = torch.cat([score, drained], -1)
        weight = score.softmax(-1)[..., : key.shape[1]]
        out[own] = (weight @ value).transpose(0, 1).to(q.dtype)
    return out
