import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.engine.attention import How, fused, merge, part, reference_part


def _softmax_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, how: How) -> torch.Tensor:
    """All keys at once, q at the end of them, written from the definition."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-1, -2) * how.scaling
    if how.softcap is not None:
        scores = how.softcap * torch.tanh(scores / how.softcap)
    total, new = k.shape[2], q.shape[2]
    distance = torch.arange(total - new, total)[:, None] - torch.arange(total)[None, :]
    hidden = distance < 0
    if how.window is not None:
        hidden = hidden | (distance >= how.window)
    return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v


@settings(max_examples=40)
@given(
    past=st.lists(st.integers(1, 40), max_size=3),
    new=st.integers(1, 33),
    groups=st.sampled_from([1, 3]),
    softcap=st.sampled_from([None, 5.0]),
    window=st.sampled_from([None, 1, 7, 64]),
    seed=st.integers(0, 99),
)
def test_parts_merge_to_attention_over_everything(
    past: list[int], new: int, groups: int, softcap: float | None, window: int | None, seed: int
) -> None:
    torch.manual_seed(seed)
    how = How(0.3, softcap, window)
    lengths = [*past, new]
    q = torch.randn(1, 2 * groups, new, 16)
    ks = [torch.randn(1, 2, n, 16) for n in lengths]
    vs = [torch.randn(1, 2, n, 16) for n in lengths]
    expected = _softmax_attention(q, torch.cat(ks, 2), torch.cat(vs, 2), how)
    start, states = sum(past), []
    at = 0
    for i, (k, v) in enumerate(zip(ks, vs, strict=True)):
        states.append(part(q, k, v, how, start, at, causal=i == len(past)))
        at += k.shape[2]
    assert (merge(states) - expected).abs().max() < 1e-5


def test_sinks_take_their_share_of_all_parts_together() -> None:
    torch.manual_seed(3)
    how = How(0.3, None, 7)
    q, k, v = torch.randn(1, 4, 5, 16), torch.randn(1, 2, 12, 16), torch.randn(1, 2, 12, 16)
    sinks = torch.tensor([-2.0, 0.0, 1.0, 9.0])
    old, new = (part(q, k[:, :, a:b], v[:, :, a:b], how, 7, a, b > 7) for a, b in ((0, 7), (7, 12)))
    keys = torch.cat([k.repeat_interleave(2, 1), torch.zeros(1, 4, 1, 16)], 2)
    values = torch.cat([v.repeat_interleave(2, 1), torch.zeros(1, 4, 1, 16)], 2)
    scores = q @ keys.transpose(2, 3) * how.scaling
    distance = torch.arange(7, 12)[:, None] - torch.arange(12)
    scores[..., :12].masked_fill_((distance < 0) | (distance >= 7), -torch.inf)
    scores[..., 12] = sinks[:, None]  # a last key that has no value
    expected = scores.softmax(-1) @ values
    assert (merge([old, new], sinks) - expected).abs().max() < 1e-5
    assert not fused(q, how._replace(window=None, sinks=sinks), reach=12)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_kernel_equals_reference(causal: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    q, k, v = (torch.randn(2, heads, 31, 64).to(dtype) for heads in (9, 3, 3))
    how = How(0.125, None, None)
    start = 0 if causal else 31
    fused = part(q, k, v, how, start, 0, causal)
    plain = reference_part(q, k, v, how, start, 0, causal)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert (fused.out.float() - plain.out.float()).abs().max() < tolerance
    assert (fused.lse - plain.lse).abs().max() < tolerance


def test_a_part_wholly_outside_the_window_changes_nothing() -> None:
    torch.manual_seed(2)
    how = How(0.25, None, 4)
    q, k, v = torch.randn(1, 2, 3, 8), torch.randn(1, 1, 3, 8), torch.randn(1, 1, 3, 8)
    near = part(q, k, v, how, 100, 100, causal=True)
    far_k, far_v = torch.full((1, 1, 5, 8), 1e4), torch.full((1, 1, 5, 8), 1e4)
    far = part(q, far_k, far_v, how, 100, 0, causal=False)
    assert torch.equal(merge([near, far]), merge([near]))
