"""Padded blocks give the attention of every lane alone, whatever is in the padding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from actors.engine.attention import How, reference_part
from actors.engine.lanes import Lane
from actors.engine.packed import Batch
from actors.engine.padded import Workspace, blocks

HEADS, KV_HEADS, HEAD_DIM = 6, 2, 16
HOW = How(0.25, None, None)

lengths = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 5), st.sampled_from([2, 2, 3, 9])),
    min_size=2,
    max_size=7,
)
"""Of each lane: passage, fixed suffix, new tokens."""


def _kv(tokens: int) -> Tensor:
    return torch.randn(2, 2, KV_HEADS, tokens, HEAD_DIM)


def _batch(shapes: list[tuple[int, int, int]], lead: int, workspace: Workspace) -> Batch:
    lanes = [
        Lane([1] * width, [_kv(passage)] + ([_kv(fixed)] if fixed else []))
        for passage, fixed, width in shapes
    ]
    return Batch(lanes, _kv(lead) if lead else None, workspace)


def _alone(batch: Batch, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Every lane over all its keys in one piece, scores in fp32."""
    outs = []
    for n, lane in enumerate(batch.lanes):
        rows = slice(batch.starts[n], batch.starts[n + 1])
        parts = [] if batch.shared is None else [batch.shared]
        stored = torch.cat([kv[1] for kv in [*parts, *lane.past]], 2)
        keys = torch.cat([stored[0], k[0, :, rows]], 1)[None]
        values = torch.cat([stored[1], v[0, :, rows]], 1)[None]
        start = stored.shape[2]
        outs.append(reference_part(q[:, :, rows], keys, values, HOW, start, 0, causal=True).out)
    return torch.cat(outs, 2)


def _qkv(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    heads = (HEADS, KV_HEADS, KV_HEADS)
    q, k, v = (torch.randn(1, num, rows, HEAD_DIM) for num in heads)
    return q, k, v


@settings(max_examples=60)
@given(shapes=lengths, lead=st.integers(0, 9), seed=st.integers(0, 2**16))
def test_blocks_are_the_lanes_alone(
    shapes: list[tuple[int, int, int]], lead: int, seed: int
) -> None:
    torch.manual_seed(seed)
    workspace = Workspace()
    batch = _batch(shapes, lead, workspace)
    q, k, v = _qkv(batch.starts[-1])
    garbage = workspace.take((1 << 18,), q)
    garbage.fill_(1e4)
    ours = batch.attend(1, q, k, v, HOW)
    assert batch._blocks and (ours - _alone(batch, q, k, v)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("shapes", "sizes"),
    [
        ([(10, 0, 2)] * 4, [4]),
        ([(10, 0, 2), (10, 0, 3), (10, 0, 3)], [1, 2]),
        ([(6, 0, 2), (10, 0, 2)], [2]),  # exactly at the fill that is taken
        ([(5, 0, 2), (10, 0, 2)], [1, 1]),
        ([(1, 0, 2), (40, 0, 2), (38, 2, 2)], [1, 2]),
    ],
)
def test_a_block_ends_where_padding_or_another_width_begins(
    shapes: list[tuple[int, int, int]], sizes: list[int]
) -> None:
    past = [[_kv(passage), _kv(fixed)] for passage, fixed, _ in shapes]
    widths = [width for _, _, width in shapes]
    cut = list(blocks(None, past, widths))
    assert [len(block._past) for block in cut] == sizes
    assert sum(block.num_rows for block in cut) == sum(widths)


def test_the_workspace_grows_and_is_reused() -> None:
    workspace, like = Workspace(), torch.empty(0, dtype=torch.bfloat16)
    first = workspace.take((3, 5), like)
    assert workspace.take((2, 8), like).data_ptr() == first.data_ptr()
    large = workspace.take((100, 7), like)
    assert large.shape == (100, 7) and large.dtype == torch.bfloat16
    assert workspace.take((3, 5), like).data_ptr() == large.data_ptr()
    large.fill_(torch.nan)
    workspace.clear()
    assert bool(workspace.take((100, 7), like).isfinite().all())
