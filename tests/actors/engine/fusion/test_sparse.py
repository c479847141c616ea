"""A pass over some tokens gives what one token after the other would give."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.engine.fusion import sparse
from actors.engine.fusion.sparse import SparseBatch
from actors.engine.lanes import Lane
from actors.engine.models import Decoder
from actors.engine.packed import Batch

Built = tuple[Decoder, Any]
NUM = 40


def text(seed: int = 3) -> list[int]:
    return torch.randint(128, (NUM,), generator=torch.Generator().manual_seed(seed)).tolist()


def noise(decoder: Decoder) -> torch.Tensor:
    return torch.randn(decoder.empty_kv(NUM).shape, generator=torch.Generator().manual_seed(4))


def one_by_one(
    decoder: Decoder, tokens: list[int], positions: list[int], kv: torch.Tensor
) -> torch.Tensor:
    """The reference: each token attends to all slots before it, those just written among them."""
    hidden = []
    for p in positions:
        lane = Lane([tokens[p]], [kv[:, :, :, :p]], (kv[:, :, :, p : p + 1],))
        hidden.append(decoder.forward(Batch([lane])))
    return torch.cat(hidden)


def test_all_tokens_are_a_full_pass_whatever_the_buffer_held(
    build_tiny: Callable[[], Built],
) -> None:
    decoder, _ = build_tiny()
    tokens, kv, expected = text(), noise(decoder), decoder.empty_kv(NUM)
    hidden = decoder.forward(Batch([Lane(tokens, sinks=(expected,))]))
    found = decoder.forward(SparseBatch(tokens, range(NUM), kv))
    torch.testing.assert_close(found, hidden, atol=1e-5, rtol=0)
    torch.testing.assert_close(kv, expected, atol=1e-5, rtol=0)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(positions=st.sets(st.integers(1, NUM - 1), min_size=1), block=st.integers(1, 9))
def test_some_tokens_see_all_slots_before_them_and_change_no_others(
    build_tiny: Callable[[], Built],
    monkeypatch: pytest.MonkeyPatch,
    positions: set[int],
    block: int,
) -> None:
    decoder, _ = build_tiny()
    tokens, chosen = text(), sorted(positions)
    before = noise(decoder)
    kv, expected = before.clone(), before.clone()
    hidden = one_by_one(decoder, tokens, chosen, expected)
    monkeypatch.setattr(sparse, "BLOCK_ROWS", block)
    found = decoder.forward(SparseBatch([tokens[p] for p in chosen], chosen, kv))
    torch.testing.assert_close(found, hidden, atol=1e-5, rtol=0)
    torch.testing.assert_close(kv, expected, atol=1e-5, rtol=0)
    others = [p for p in range(NUM) if p not in positions]
    assert torch.equal(kv[:, :, :, others], before[:, :, :, others])


def test_in_bf16_it_is_the_reference_to_rounding(decoder_bf16: Decoder) -> None:
    tokens = text() * 5
    kv = decoder_bf16.empty_kv(len(tokens))
    decoder_bf16.forward(Batch([Lane(tokens, sinks=(kv,))]))
    chosen = [*range(70, 80), 130, 131, *range(190, 200)]
    expected = one_by_one(decoder_bf16, tokens, chosen, kv.clone())
    found = decoder_bf16.forward(SparseBatch([tokens[p] for p in chosen], chosen, kv))
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()
