from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from actors.engine.attention import How, State, merge, reference_part
from actors.engine.cuda import (
    CascadeLane,
    PassInputs,
    cascade_attention,
    cascade_parts,
    cascade_reference,
)
from actors.engine.cuda.cascade import tile_of
from actors.engine.cuda.parts import PassShape
from kvstore.types import Dtype, Layout
from tests.actors.engine.cuda.passes import CPU, TOLERANCE, Pass, difference, random_pass

HOWS = (How(0.3, None, None), How(0.3, 5.0, None), How(0.3, None, 7), How(0.3, 5.0, 64))

LANES = st.lists(
    st.tuples(st.lists(st.integers(0, 70), max_size=3), st.integers(1, 17)), min_size=1, max_size=5
)
"""Lengths of stored parts, and new tokens."""


def merged(made: Pass, layer: int, how: How) -> Tensor:
    """Part by part, merged by log-sum-exp: the engine's other way to compute it."""
    rows = []
    ends = pairwise(made.parts.starts.tolist())
    for (start, end), segments in zip(ends, made.parts.segments, strict=True):
        q, k, v = (t[start:end].transpose(0, 1)[None] for t in made.qkv)
        at, states = 0, list[State]()
        first = sum(kv.shape[3] for kv in segments)
        for kv in segments:
            if kv.shape[3]:
                key, value = kv[layer, :, None]
                states.append(reference_part(q, key, value, how, first, at, causal=False))
            at += kv.shape[3]
        states.append(reference_part(q, k, v, how, first, first, causal=True))
        rows.append(merge(states, how.sinks)[0].transpose(0, 1))
    return torch.cat(rows)


@settings(max_examples=40)
@given(lanes=LANES, groups=st.integers(1, 4), how=st.sampled_from(HOWS), seed=st.integers(0, 99))
def test_reference_equals_merged_parts(
    lanes: list[tuple[list[int], int]], groups: int, how: How, seed: int
) -> None:
    made = random_pass([p for p, _ in lanes], [w for _, w in lanes], groups=groups, seed=seed)
    assert difference(cascade_reference(*made.qkv, made.parts, 1, how), merged(made, 1, how)) < 1e-5


@pytest.mark.usefixtures("interpreter")
@settings(max_examples=12)
@given(
    lanes=LANES,
    groups=st.integers(1, 4),
    head_dim=st.sampled_from([16, 32, 64]),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    how=st.sampled_from(HOWS),
    seed=st.integers(0, 99),
)
def test_kernel_equals_reference(
    lanes: list[tuple[list[int], int]],
    groups: int,
    head_dim: int,
    dtype: Dtype,
    how: How,
    seed: int,
) -> None:
    made = random_pass(
        [p for p, _ in lanes], [w for _, w in lanes], 2, groups, head_dim, dtype, seed
    )
    ours = cascade_attention(*made.qkv, made.parts, 1, how)
    assert difference(ours, cascade_reference(*made.qkv, made.parts, 1, how)) < TOLERANCE[dtype]


@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("head_dim", [8, 24, 96])
@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 128])
def test_kernel_at_the_edges_of_its_blocks(tokens: int, head_dim: int) -> None:
    """Keys end before, at and behind a block; heads are not a power of two."""
    made = random_pass([[5, tokens], [0, tokens], []], [64, 1, 65], 1, 1, head_dim, "float16")
    ours = cascade_attention(*made.qkv, made.parts, 0, HOWS[0])
    assert difference(ours, cascade_reference(*made.qkv, made.parts, 0, HOWS[0])) < 4e-3


@pytest.mark.usefixtures("interpreter")
def test_a_window_skips_whole_parts_and_blocks() -> None:
    """Keys out of the window are so large that seeing one would show."""
    made = random_pass([[70, 130, 3]], [33], dtype="float32")
    made.parts.segments[0][0].fill_(1e4)
    made.parts.segments[0][1][:, :, :, :120] = 1e4
    how = How(0.3, None, 13)  # the first new token sees 12 stored ones
    ours = cascade_attention(*made.qkv, made.parts, 0, how)
    assert ours.abs().max() < 100
    assert difference(ours, cascade_reference(*made.qkv, made.parts, 0, how)) < 1e-5


@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("how", HOWS)
def test_sinks_take_their_share_in_kernel_and_reference(how: How) -> None:
    made = random_pass([[40, 3], [], [0]], [9, 1, 17], groups=2)
    sinks = torch.tensor([-2.0, 0.0, 1.0, 9.0])
    how = how._replace(sinks=sinks)
    expected = merged(made, 1, how)
    assert difference(cascade_reference(*made.qkv, made.parts, 1, how), expected) < 1e-5
    assert difference(cascade_attention(*made.qkv, made.parts, 1, how), expected) < 2e-5
    plain = merged(made, 1, how._replace(sinks=None))
    assert difference(expected, plain) > 0.1


def amid_garbage(tokens: int) -> Tensor:
    """KV [1, 2, 2, tokens, 16] with NaN before and behind it."""
    size = 2 * 2 * tokens * 16
    arena = torch.full((3 * size,), torch.nan)
    return arena[size : 2 * size].view(1, 2, 2, tokens, 16).normal_()


@pytest.mark.usefixtures("interpreter")
def test_padding_is_zero_and_garbage_is_not_read() -> None:
    """A bucket of 4 lanes of 8 rows holds 2 lanes of 3 and 5; all that is padding is NaN."""
    inputs = PassInputs(PassShape(4, 2, 8, 32), Layout(1, 2, 1, 16, "float32"), CPU)
    inputs.fill([CascadeLane([1] * 3, [amid_garbage(5)]), CascadeLane([1] * 5, [amid_garbage(2)])])
    q, k, v = (torch.full((32, h, 16), torch.nan) for h in (4, 2, 2))
    for rows in (slice(0, 3), slice(8, 13)):
        for t in (q, k, v):
            t[rows].normal_()
    out = cascade_attention(q, k, v, inputs.parts, 0, HOWS[0])
    assert difference(out, cascade_reference(q, k, v, inputs.parts, 0, HOWS[0])) < 1e-5
    padding = torch.ones(32, dtype=torch.bool)
    padding[0:3] = padding[8:13] = False
    assert not out[padding].any() and out[~padding].any(-1).all()


@pytest.mark.usefixtures("interpreter")
def test_layers_may_lie_apart() -> None:
    """Segments of one buffer in which a layer of all of them is contiguous."""
    made = random_pass([[7, 40], [7, 3]], [4, 6])
    flat = [torch.cat([kv.reshape(2, -1) for kv in lane], 1) for lane in made.parts.segments]
    buffer, at = torch.cat(flat, 1), 0
    moved: list[list[Tensor]] = []
    for lane in made.parts.segments:
        moved.append([])
        for kv in lane:
            size = kv[0].numel()
            moved[-1].append(buffer[:, at : at + size].view(kv.shape))
            at += size
    layout = Layout(2, 2, 1, 16, "float32")
    parts = cascade_parts(moved, [4, 6], layout, CPU)
    ours = cascade_attention(*made.qkv, parts, 1, HOWS[0])
    assert torch.equal(ours, cascade_attention(*made.qkv, made.parts, 1, HOWS[0]))


def test_tiles_are_named_for_every_supported_head() -> None:
    for head_dim in (8, 64, 80, 128, 256):
        for itemsize in (2, 4):
            for rows in (1, 17, 4096):
                tile = tile_of(head_dim, itemsize, rows)
                assert tile.dims >= head_dim and 16 <= tile.rows <= 128
    with pytest.raises(ValueError, match="head_dim is 257"):
        tile_of(257, 2, 1)


def test_a_pass_of_other_rows_is_refused() -> None:
    made = random_pass([[3]], [4])
    with pytest.raises(AssertionError):
        cascade_attention(made.q[:3], made.k, made.v, made.parts, 0, HOWS[0])
    with pytest.raises(AssertionError):
        cascade_attention(*made.qkv, replace(made.parts, num_rows=5), 0, HOWS[0])
