"""Attention of chosen tokens: the kernel, against the definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from actors.engine.attention import How
from actors.engine.cuda import sparse_attention, sparse_reference
from actors.engine.models import TORCH_DTYPES
from kvstore.types import Dtype
from tests.actors.engine.cuda.passes import TOLERANCE
from tests.actors.engine.cuda.test_cascade import HOWS


def random_case(
    slots: int, chosen: int, groups: int, head_dim: int, dtype: Dtype, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries strided as transformers' are, keys and values as parts of a longer buffer."""
    torch.manual_seed(seed)
    kind = TORCH_DTYPES[dtype]
    q = torch.randn(chosen, 2 * groups, head_dim).to(kind).transpose(0, 1)
    kv = torch.randn(2, 2, slots + 5, head_dim).to(kind)[:, :, :slots]
    positions = torch.randperm(slots)[:chosen].sort().values
    return q, kv[0], kv[1], positions


@pytest.mark.usefixtures("interpreter")
@settings(max_examples=16)
@given(
    slots=st.integers(1, 200),
    share=st.floats(0, 1),
    groups=st.integers(1, 4),
    head_dim=st.sampled_from([16, 24, 64]),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    how=st.sampled_from(HOWS),
    seed=st.integers(0, 99),
)
def test_kernel_equals_reference(
    slots: int, share: float, groups: int, head_dim: int, dtype: Dtype, how: How, seed: int
) -> None:
    chosen = max(1, round(share * slots))
    case = random_case(slots, chosen, groups, head_dim, dtype, seed)
    expected = sparse_reference(*case, how).float()
    found = sparse_attention(*case, how).float()
    assert found.shape == expected.shape == (2 * groups, chosen, head_dim)
    assert (found - expected).abs().max() < TOLERANCE[dtype]


@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize("how", HOWS)
def test_sinks_take_their_share(how: How) -> None:
    q, keys, values, positions = random_case(90, 12, 2, 16, "float32", 0)
    sinks = torch.tensor([-2.0, 0.0, 1.0, 9.0])
    with_sinks = how._replace(sinks=sinks)
    expected = sparse_reference(q, keys, values, positions, with_sinks)
    found = sparse_attention(q, keys, values, positions, with_sinks)
    assert (found - expected).abs().max() < 2e-5
    plain = sparse_reference(q, keys, values, positions, how)
    assert (expected - plain).abs().amax((1, 2))[3] > 0.5, "the last head's sink takes nearly all"


@pytest.mark.usefixtures("interpreter")
def test_slots_behind_a_token_are_not_looked_at() -> None:
    q, keys, values, _ = random_case(90, 3, 2, 16, "float32", 0)
    positions = torch.tensor([4, 40, 70])
    expected = sparse_reference(q, keys, values, positions, HOWS[0])
    keys[:, 71:] = torch.nan
    values[:, 71:] = torch.nan
    assert torch.allclose(
        sparse_attention(q, keys, values, positions, HOWS[0]), expected, atol=2e-5
    )
