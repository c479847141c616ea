"""The generator in mode `fusion`: each passage is computed once, wherever it stands."""

import time
from dataclasses import replace

import pytest
import torch

from actors.engine.config import FusionConfig, GeneratorConfig
from actors.engine.generate import GenerateEngine, Sequence
from actors.engine.runtime import Runtime
from actors.messages import GenerateRequest, Message
from kvstore.client import StoreClient
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.actors.engine.generating import decoded, request, started
from tests.actors.engine.texts import PASSAGES, QUESTIONS

MANY = (0, 1, 2, 3)


def engine(runtime: Runtime, client: StoreClient | None, ratio: float) -> GenerateEngine:
    fusion = FusionConfig(ratio=ratio, selection="query_guided")
    return GenerateEngine(runtime, GeneratorConfig(mode="fusion", fusion=fusion), client)


def exact(runtime: Runtime) -> GenerateEngine:
    return GenerateEngine(runtime, GeneratorConfig(mode="full"), None)


def kv_error(a: Sequence, b: Sequence) -> float:
    return float((a.kv[:, :, :, : a.length] - b.kv[:, :, :, : b.length]).abs().max())


def test_all_tokens_recomputed_is_full_attention(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    full, fusion = exact(runtime), engine(runtime, client, 1.0)
    for order in (MANY, (3, 1), MANY):
        expected, found = started(full, *order), started(fusion, *order)
        assert kv_error(found, expected) < 1e-3
        assert decoded(fusion, found) == decoded(full, expected)


@pytest.mark.parametrize("order", [(), (2,)])
def test_nothing_in_front_is_exact(
    runtime: Runtime, client: LocalStoreClient, order: tuple[int, ...]
) -> None:
    full, fusion = exact(runtime), engine(runtime, client, 0.0)
    for _ in range(2):
        expected, found = started(full, *order), started(fusion, *order)
        assert kv_error(found, expected) < 1e-3
        assert decoded(fusion, found) == decoded(full, expected)


def test_passages_are_computed_once_whatever_their_order(
    runtime: Runtime, client: LocalStoreClient, store: KVStore
) -> None:
    fusion = engine(runtime, client, 0.0)
    reports = [started(fusion, *order).cache for order in ((0, 1, 2), (2, 0), (1, 3, 0), (3, 2))]
    assert [r.computed for r in reports] == [3, 0, 1, 0]
    assert [r.hits for r in reports] == [0, 2, 2, 2]
    question = len(runtime.prompt.conversation((Message("user", QUESTIONS[0]),)).tail)
    assert reports[1].tokens_computed == question
    assert store.check().ok


def talk(*order: int) -> GenerateRequest:
    """The same question behind an exchange of a conversation."""
    exchange = (Message("user", QUESTIONS[1]), Message("assistant", "By the del statement."))
    asked = request(*order)
    return replace(asked, messages=(*exchange, *asked.messages))


def test_passages_behind_a_history_are_those_of_any_other_question(
    runtime: Runtime, client: LocalStoreClient, store: KVStore
) -> None:
    fusion = engine(runtime, client, 0.0)
    started(fusion, 0, 1, 2)
    found = [fusion.start(talk(2, 1), time.monotonic() + 60).cache for _ in range(2)]
    tail = len(runtime.prompt.conversation(talk().messages).tail)
    assert [report.computed for report in found] == [1, 0], "the exchange, once"
    assert found[1].tokens_computed == tail and found[1].mode == "fusion"
    assert store.check().ok


@pytest.mark.parametrize("order", [(3, 1), (2,)])
def test_all_tokens_recomputed_behind_a_history_is_full_attention(
    runtime: Runtime, client: LocalStoreClient, order: tuple[int, ...]
) -> None:
    full, fusion = exact(runtime), engine(runtime, client, 1.0)
    expected = full.start(talk(*order), time.monotonic() + 60)
    for _ in range(2):
        found = fusion.start(talk(*order), time.monotonic() + 60)
        assert kv_error(found, expected) < 1e-3
    assert decoded(fusion, found) == decoded(full, expected)


def test_the_same_passage_may_stand_twice(runtime: Runtime, client: LocalStoreClient) -> None:
    fusion = engine(runtime, client, 1.0)
    expected = started(exact(runtime), 0, 1, 0)
    assert kv_error(started(fusion, 0, 1, 0), expected) < 1e-3


def test_more_tokens_recomputed_come_nearer_to_full_attention(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    expected = started(exact(runtime), *MANY)
    errors = []
    for ratio in (0.0, 0.15, 0.5, 1.0):
        found = started(engine(runtime, client, ratio), *MANY)
        difference = found.kv[:, 1, :, : found.length] - expected.kv[:, 1, :, : found.length]
        errors.append(float(difference.square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[3] < 1e-6 * errors[0]


def test_the_share_recomputed_is_reported(runtime: Runtime, client: LocalStoreClient) -> None:
    fusion = engine(runtime, client, 0.2)
    started(fusion, *MANY)
    sequence = started(fusion, *MANY)
    passages = sum(len(runtime.prompt.passage(PASSAGES[i])) for i in MANY)
    question = len(runtime.prompt.conversation((Message("user", QUESTIONS[0]),)).tail)
    assert sequence.cache.tokens_computed == int(0.2 * passages) + question
    assert sequence.cache.tokens_reused == passages - int(0.2 * passages)


def test_what_changes_while_it_is_copied_is_computed_exactly(
    runtime: Runtime, client: LocalStoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    fusion = engine(runtime, client, 0.0)
    started(fusion, *MANY)
    monkeypatch.setattr(client, "unchanged", lambda acquired, extents: False)
    found, expected = started(fusion, *MANY), started(exact(runtime), *MANY)
    assert kv_error(found, expected) < 1e-3


def test_fused_and_exact_requests_decode_together(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    fusion = engine(runtime, client, 0.15)
    alone = [decoded(fusion, started(fusion, *order))[0] for order in (MANY, (1,), (2, 0))]
    together = [started(fusion, *order) for order in (MANY, (1,), (2, 0))]
    assert decoded(fusion, *together) == alone


def test_without_a_store_all_is_computed_exactly(runtime: Runtime) -> None:
    fusion = engine(runtime, None, 0.0)
    assert kv_error(started(fusion, *MANY), started(exact(runtime), *MANY)) < 1e-3


def test_a_store_that_fails_costs_time_and_no_answer(
    runtime: Runtime, client: LocalStoreClient, store: KVStore
) -> None:
    fusion = engine(runtime, client, 0.15)
    expected = started(fusion, *MANY)
    store.close()
    found = started(fusion, *MANY)
    assert kv_error(found, expected) < 1e-3
    assert (found.cache.computed, found.cache.store) == (len(MANY), "unavailable")


def test_what_waits_announces_what_it_will_need(
    runtime: Runtime, client: LocalStoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced: list[int] = []
    monkeypatch.setattr(client, "announce", lambda _, paths, __: announced.append(len(paths)))
    engine(runtime, client, 0.0).announce("r", request(*MANY))
    assert announced == [len(MANY)]


def test_assembled_passages_are_their_raw_kv_turned(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    """Values of the first layer depend on a token alone: they are exact at any ratio."""
    found = started(engine(runtime, client, 0.0), *MANY)
    expected = started(exact(runtime), *MANY)
    length = found.length
    torch.testing.assert_close(
        found.kv[0, :, :, :length], expected.kv[0, :, :, :length], atol=1e-4, rtol=1e-4
    )
