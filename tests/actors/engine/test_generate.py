"""Answers with prefix reuse are the tokens of full computation."""

import time
from dataclasses import replace

import pytest
import torch

from actors.engine.config import DeviceTierConfig, GeneratorConfig, RerankerConfig
from actors.engine.generate import GenerateEngine, Sequence
from actors.engine.rerank import RerankEngine
from actors.engine.runtime import Runtime
from actors.errors import RequestError
from actors.messages import GenerateRequest, Message, Sampling
from kvstore.client import StoreClient
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.actors.engine.device.conftest import pool_tier
from tests.actors.engine.generating import decoded
from tests.actors.engine.texts import PASSAGES, QUESTIONS


def _engine(runtime: Runtime, client: StoreClient | None, mode: str = "prefix") -> GenerateEngine:
    config = GeneratorConfig(mode=mode)  # type: ignore[arg-type]
    return GenerateEngine(runtime, config, client)


def _request(
    question: str = QUESTIONS[0], passages: tuple[str, ...] = (), **sampling: object
) -> GenerateRequest:
    settings = Sampling(**({"max_tokens": 12} | sampling))  # type: ignore[arg-type]
    return GenerateRequest("r", "t", (Message("user", question),), passages, settings, 60)


def _start(engine: GenerateEngine, request: GenerateRequest) -> Sequence:
    return engine.start(request, time.monotonic() + 60)


def test_reused_prefixes_of_any_length_give_the_same_tokens(
    runtime: Runtime, client: LocalStoreClient, store: KVStore
) -> None:
    full, prefix = _engine(runtime, None, "full"), _engine(runtime, client)
    orders = [(0, 1, 2), (0, 1, 2), (0, 2, 1), (3,), (), (0, 1, 2)]
    reused = []
    for order in orders:
        request = _request(passages=tuple(PASSAGES[i] for i in order))
        sequence = _start(prefix, request)
        reused.append(sequence.cache.dram_hits)
        assert decoded(prefix, sequence) == decoded(full, _start(full, request))
    assert reused == [0, 4, 2, 1, 1, 4]  # the prefix counts, and the leading passages
    assert store.check().ok


def _talk(num_exchanges: int, passages: tuple[str, ...]) -> GenerateRequest:
    said = [("user", QUESTIONS[1]), ("assistant", "By del."), ("user", "And"), ("assistant", "so?")]
    messages = [Message(role, text) for role, text in said[: 2 * num_exchanges]]  # type: ignore[arg-type]
    return replace(_request(passages=passages), messages=(*messages, Message("user", QUESTIONS[0])))


def test_exchanges_are_computed_once_and_answers_stay_those_of_full_computation(
    runtime: Runtime, client: LocalStoreClient, store: KVStore
) -> None:
    full, prefix = _engine(runtime, None, "full"), _engine(runtime, client)
    hits = []
    for num, order in [(0, (0, 1)), (1, (0, 1)), (2, (2, 0)), (2, (2, 0)), (2, (2, 0)), (0, (0,))]:
        request = _talk(num, tuple(PASSAGES[i] for i in order))
        sequence = _start(prefix, request)
        hits.append(sequence.cache.dram_hits)
        assert decoded(prefix, sequence) == decoded(full, _start(full, request))
    # The prefix, then exchanges; passages behind them from the third time on that they come.
    assert hits == [0, 1, 2, 3, 5, 2]
    assert store.check().ok


@pytest.mark.parametrize("kind", ["pins", "copies"])
def test_tokens_are_the_same_with_a_device_tier(
    runtime: Runtime, client: LocalStoreClient, store: KVStore, kind: str
) -> None:
    tier = DeviceTierConfig(2**26, arena_share=0.5)
    engine = GenerateEngine(runtime, GeneratorConfig(device_tier=tier), client)
    if kind == "copies":
        engine._segments._tier = pool_tier(tier)
    plain = _engine(runtime, client)
    found = []
    for order in ((0, 1), (0, 1), (0, 2), (0, 1)):
        request = _request(passages=tuple(PASSAGES[i] for i in order))
        sequence = _start(engine, request)
        found.append((sequence.cache.device_hits, sequence.cache.computed))
        assert decoded(engine, sequence) == decoded(plain, _start(plain, request))
    assert found == [(0, 3), (3, 0), (2, 1), (3, 0)]
    assert store.check().ok


def test_a_warm_answer_is_the_cold_one_in_bf16(
    runtime_bf16: Runtime, client: LocalStoreClient
) -> None:
    engine = _engine(runtime_bf16, client)
    for i, question in enumerate(QUESTIONS):
        request = _request(question, tuple(PASSAGES[i : i + 3]))
        cold, warm = _start(engine, request), _start(engine, request)
        assert cold.cache.computed > 0 and warm.cache.computed == 0
        assert decoded(engine, cold) == decoded(engine, warm)
        assert torch.equal(cold.kv[:, :, :, : cold.length], warm.kv[:, :, :, : warm.length])


def test_the_first_passage_is_the_rerankers_segment(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    RerankEngine(runtime, RerankerConfig(), client).score("t", QUESTIONS[0], PASSAGES, 60)
    sequence = _start(_engine(runtime, client), _request(passages=(PASSAGES[4], PASSAGES[0])))
    assert (sequence.cache.dram_hits, sequence.cache.computed) == (2, 1)


def test_batch_size_changes_no_greedy_token(runtime: Runtime) -> None:
    engine = _engine(runtime, None, "full")
    requests = [_request(q, (PASSAGES[i],)) for i, q in enumerate(QUESTIONS)]
    alone = [decoded(engine, _start(engine, r))[0] for r in requests]
    together = decoded(engine, *(_start(engine, r) for r in requests))
    assert together == alone


def test_a_closed_store_changes_no_answer(
    runtime: Runtime, client: LocalStoreClient, store: KVStore
) -> None:
    engine, full = _engine(runtime, client), _engine(runtime, None, "full")
    request = _request(passages=tuple(PASSAGES[:2]))
    _start(engine, request)
    store.close()
    sequence = _start(engine, request)
    assert sequence.cache.store == "unavailable"
    assert decoded(engine, sequence) == decoded(full, _start(full, request))


def test_a_raw_prompt_is_continued_without_a_template(runtime: Runtime) -> None:
    engine = _engine(runtime, None, "full")
    raw = GenerateRequest("r", "t", (), (), Sampling(8), 60, raw_prompt="The capital of France is")
    sequence = _start(engine, raw)
    assert sequence.num_prompt == len(runtime.prompt.raw("The capital of France is"))
    assert " Paris" in runtime.decoder.tokenizer.decode(decoded(engine, sequence, steps=3)[0])


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (_request("word " * 100_000), "messages"),
        (_request(max_tokens=0), "max_tokens"),
        (GenerateRequest("r", "t", (), (), Sampling(8), 60, raw_prompt=""), "prompt"),
    ],
)
def test_bad_requests_name_the_field(
    runtime: Runtime, request_: GenerateRequest, field: str
) -> None:
    with pytest.raises(RequestError) as error:
        _start(_engine(runtime, None, "full"), request_)
    assert error.value.field == field


def test_tenants_share_nothing(runtime: Runtime, client: LocalStoreClient) -> None:
    engine = _engine(runtime, client)
    _start(engine, _request(passages=(PASSAGES[0],)))
    other = GenerateRequest(
        "r", "other", (Message("user", "Why?"),), (PASSAGES[0],), Sampling(4), 60
    )
    assert _start(engine, other).cache.dram_hits == 0
