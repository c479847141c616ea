"""Attention of some tokens of a sequence over its KV, in one launch a layer (ALGORITHMS 5.3)."""

from typing import Any

import torch
from torch import Tensor

from actors.engine.attention import How, attend_at, merge
from actors.engine.cuda.cascade import tile_of


def sparse_attention(
    q: Tensor, keys: Tensor, values: Tensor, positions: Tensor, how: How
) -> Tensor:
    """q [H, R, dh] of tokens at ascending positions [R] over keys, values [Hkv, S, dh], in which a
    slot is a position; [H, R, dh].

    A token attends to every slot up to its own, as far as the window reaches. Statistics in fp32.
    Rows and heads may be strided, head dimensions not. Runs where triton runs: on CUDA, and on a
    CPU under its interpreter (TRITON_INTERPRET=1 before triton is loaded).
    """
    heads, num_tokens, head_dim = q.shape
    kv_heads = keys.shape[0]
    assert positions.shape == (num_tokens,) and keys.shape == values.shape, (q.shape, keys.shape)
    assert heads % kv_heads == 0 and keys.shape[2] == head_dim
    assert q.stride(2) == keys.stride(2) == values.stride(2) == 1, "head dimensions are contiguous"
    from actors.engine.cuda.sparse_kernel import sparse_kernel

    groups = heads // kv_heads
    tile = tile_of(head_dim, q.element_size(), num_tokens * groups)
    out = torch.empty((heads, num_tokens, head_dim), dtype=q.dtype, device=q.device)
    launch: Any = sparse_kernel[(-(-num_tokens * groups // tile.rows), kv_heads)]
    launch(
        q, keys, values, out, positions,
        q if how.sinks is None else how.sinks,
        num_tokens, how.scaling, how.softcap or 0.0, how.window or 0,
        *_row_head(q), *_row_head(keys), *_row_head(values), *_row_head(out),
        GROUPS=groups, DH=head_dim,
        BLOCK_M=tile.rows, BLOCK_T=tile.keys, BLOCK_D=tile.dims,
        HAS_SOFTCAP=how.softcap is not None, HAS_WINDOW=how.window is not None,
        HAS_SINKS=how.sinks is not None,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out


def sparse_reference(
    q: Tensor, keys: Tensor, values: Tensor, positions: Tensor, how: How
) -> Tensor:
    """The same in plain PyTorch, with all scores at once: any device."""
    slots = torch.arange(keys.shape[1], device=q.device)
    state = attend_at(q[None], keys[None], values[None], how, positions, slots)
    return merge([state], how.sinks)[0]


def _row_head(x: Tensor) -> tuple[int, int]:
    """Strides of [heads, rows, dh]."""
    return x.stride(1), x.stride(0)
