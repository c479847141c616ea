"""In 16-bit types, too, a row's bits are those it has in any other pass."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import linear

from actors.engine import invariant, models
from actors.engine.attention import How, State
from actors.engine.config import ModelConfig, RerankerConfig
from actors.engine.invariant import (
    MAX_ROWS,
    InvariantProducts,
    attention_is_invariant,
    by_input,
    fewest_rows,
)
from actors.engine.lanes import Lane
from actors.engine.models import Decoder, load_decoder
from actors.engine.packed import Batch
from actors.engine.rerank import RerankEngine
from actors.engine.runtime import Runtime
from kvstore.local import LocalStoreClient
from tests.actors.engine.texts import PASSAGES, QUESTIONS

needs_invariance = pytest.mark.skipif(
    fewest_rows(torch.nn.Linear(576, 1536, dtype=torch.bfloat16)) is None
    or not attention_is_invariant(9, 3, 64, torch.bfloat16),
    reason="the kernels of this CPU are not batch-invariant in bf16",
)


@pytest.fixture(scope="module")
def steady(decoder_bf16: Decoder) -> Decoder:
    decoder_bf16.make_invariant()
    assert decoder_bf16.invariant
    return decoder_bf16


def _hidden(decoder: Decoder, batch: Batch) -> list[torch.Tensor]:
    rows = decoder.forward(batch)
    assert len(rows) == batch.starts[-1]
    return [rows[a:b] for a, b in pairwise(batch.starts)]


@needs_invariance
@settings(max_examples=6)
@given(
    lead=st.integers(1, 40),
    passages=st.lists(st.integers(1, 300) | st.just(900), min_size=1, max_size=4),
    width=st.sampled_from([1, 2, 23, 32, 33, 64, 65]),
    fixed=st.integers(0, 20),
)
def test_stored_or_new_alone_or_together_gives_the_same_bits(
    steady: Decoder, lead: int, passages: list[int], width: int, fixed: int
) -> None:
    prefix = [(3 * i) % 40_000 + 1 for i in range(lead)]
    texts = [[(7 * i + j) % 40_000 + 1 for j in range(n)] for i, n in enumerate(passages)]
    tail = [(11 * i) % 40_000 + 1 for i in range(fixed)]
    asked = [(13 * i) % 40_000 + 1 for i in range(width)]

    whole = [Lane([*prefix, *text, *tail, *asked]) for text in texts]
    expected = [rows[-width:] for rows in _hidden(steady, Batch(whole, invariant=True))]
    alone = _hidden(steady, Batch(whole[:1], invariant=True))[0][-width:]
    assert torch.equal(alone, expected[0])

    shared = steady.empty_kv(lead)
    steady.forward(Batch([Lane(prefix, sinks=(shared,))], invariant=True))
    stored = [[steady.empty_kv(n), steady.empty_kv(fixed)] for n in passages]
    fills = [Lane([*text, *tail], sinks=kvs) for text, kvs in zip(texts, stored, strict=True)]
    steady.forward(Batch(fills, shared, invariant=True))
    found = _hidden(steady, Batch([Lane(asked, kvs) for kvs in stored], shared, invariant=True))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@needs_invariance
def test_log_probabilities_do_not_depend_on_the_other_rows(steady: Decoder) -> None:
    hidden = torch.randn(300, 576).bfloat16()
    targets = torch.arange(300)
    expected = steady.log_probs(hidden, targets)
    for rows in (slice(0, 1), slice(7, 30), slice(100, 300)):
        assert torch.equal(steady.log_probs(hidden[rows], targets[rows]), expected[rows])


@needs_invariance
def test_cold_warm_full_and_small_passes_give_one_score(
    runtime_bf16: Runtime, client: LocalStoreClient
) -> None:
    full = RerankEngine(runtime_bf16, RerankerConfig(reuse="off"), None)
    reusing = RerankEngine(runtime_bf16, RerankerConfig(), client)
    small = RerankEngine(runtime_bf16, RerankerConfig(batch_tokens=300), client)
    for question in QUESTIONS[:2]:
        expected = full.score("t", question, PASSAGES, 60).log_likelihoods
        for engine in (reusing, reusing, small):
            assert engine.score("t", question, PASSAGES, 60).log_likelihoods == expected


@needs_invariance
def test_products_keep_their_bits_at_every_step_and_beyond_the_largest() -> None:
    layer = torch.nn.Linear(1536, 576, bias=True, dtype=torch.bfloat16)
    model = torch.nn.Sequential(layer)
    products = InvariantProducts.of(model)
    assert products is not None
    x = torch.randn(MAX_ROWS + 640, 1536).bfloat16()
    with torch.inference_mode():
        assert torch.equal(model(x[:5]), linear(x[:5], by_input(layer.weight), layer.bias))
        products.wanted = True
        expected = model(x)
        for start, rows in ((0, 64), (64, 320), (640, 1920), (2048, 640), (512, 2112)):
            part = model(x[None, start : start + rows])[0]
            assert torch.equal(part, expected[start : start + rows])


def test_a_library_without_such_products_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(64, 32, dtype=torch.bfloat16))
    monkeypatch.setattr(invariant, "fewest_rows", lambda layer: None)
    assert InvariantProducts.of(model) is None and type(model[0]) is torch.nn.Linear
    assert "not batch-invariant" in caplog.text


def test_a_kernel_whose_bits_depend_on_what_is_beside_leaves_the_model_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decoder = load_decoder(ModelConfig(dtype="bfloat16"))
    monkeypatch.setattr(models, "attention_is_invariant", lambda *_: False)
    decoder.make_invariant()
    assert not decoder.invariant and "reuse rounds" in caplog.text


@pytest.mark.parametrize("share", [0.0, 2**-7])
def test_the_probe_of_attention_sees_a_row_that_is_summed_otherwise(
    monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    def exact(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scaling: float) -> Tensor:
        keys, values = (t.double().repeat_interleave(3, 1) for t in (k, v))
        scores = q.double() @ keys.transpose(-1, -2) * scaling + mask
        out = scores.softmax(-1) @ values
        return (out * (1 + share * (q.shape[2] == 2))).to(q.dtype)

    def causal(q: Tensor, k: Tensor, v: Tensor, how: How, *_: Any, **__: Any) -> State:
        hidden = torch.arange(k.shape[2]) > torch.arange(q.shape[2])[:, None]
        mask = torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
        return State(exact(q, k, v, mask, how.scaling), q)

    monkeypatch.setattr(invariant, "part_masked", exact)
    monkeypatch.setattr(invariant, "part", causal)
    assert attention_is_invariant(9, 3, 64, torch.bfloat16) is (share == 0)


def test_fp32_needs_none(runtime: Runtime) -> None:
    RerankEngine(runtime, RerankerConfig(reuse="off"), None)
    assert not runtime.decoder.invariant
