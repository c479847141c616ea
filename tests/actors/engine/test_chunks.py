"""A prefill goes on beside the decoding of others, whatever its mode."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from actors.engine.cache import RowBatch
from actors.engine.chunks import PrefillChunks
from actors.engine.config import FusionConfig, GeneratorConfig, SelectionRule
from actors.engine.generate import GenerateEngine, Sequence
from actors.engine.lanes import behind
from actors.engine.models import Decoder
from actors.engine.packed import Batch
from actors.engine.plan import Plan, Planner
from actors.engine.runtime import Runtime
from actors.engine.together import Together
from actors.errors import ExpiredError
from actors.messages import GenerateRequest, Neighbourhood, Sampling
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.actors.engine.generating import Decoding, decoded, request, started
from tests.actors.engine.speaking import runtime_of, speaking
from tests.actors.engine.texts import PASSAGES

CHUNK = 24
Rows = list[int]


@pytest.fixture
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Runtime:
    """A tiny model of random weights, of the family that a test names."""
    return runtime_of(speaking(getattr(request, "param", "llama"))[0], tmp_path)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rows]:
    """Of a prefill in every pass, in order."""
    found: Rows = []
    forward = Decoder.forward

    def counted(decoder: Decoder, batch: RowBatch) -> object:
        own = batch.first if isinstance(batch, Together) else batch
        if not decodes(own):
            found.append(own.num_new)
        return forward(decoder, batch)

    monkeypatch.setattr(Decoder, "forward", counted)
    yield found


def decodes(batch: RowBatch) -> bool:
    return isinstance(batch, Batch) and batch.lanes[0].joined is not None


def cutting(runtime: Runtime, client: LocalStoreClient | None, **changes: object) -> GenerateEngine:
    config = replace(GeneratorConfig(prefill_chunk_tokens=CHUNK), **changes)  # type: ignore[arg-type]
    return GenerateEngine(runtime, config, client)


def beside(engine: GenerateEngine, others: Decoding, *order: int) -> Sequence:
    with engine.chunks.beside(others):
        return started(engine, *order)


def assert_beside(rows: Rows, others: Decoding) -> None:
    """No pass is larger than a chunk, and the others had the tokens that they have alone, one in
    each of these passes or behind it."""
    assert len(rows) > 2 and max(rows) <= CHUNK
    assert others.steps >= len(rows) - 1 and others.shared > 0
    assert_as_alone(others)


def assert_as_alone(others: Decoding) -> None:
    assert others.engine is not None
    others.step()
    alone = Decoding.of(others.engine)
    for _ in range(others.steps):
        alone.step()
    assert others.tokens == alone.tokens


@pytest.mark.parametrize(("num_rows", "sizes"), [(5, [5]), (10, [10]), (25, [10, 10, 5]), (0, [])])
def test_rows_are_cut_with_a_token_of_others_before_each_pass_but_the_first(
    num_rows: int, sizes: list[int]
) -> None:
    chunks, others = PrefillChunks(10), Decoding()
    found: Rows = []
    with chunks.beside(others):
        for start, end in chunks.passes(num_rows):
            assert others.steps == len(found) and start == sum(found)
            found.append(end - start)
    assert found == sizes


def test_nothing_is_cut_alone_nor_when_the_others_have_ended() -> None:
    chunks, others = PrefillChunks(10), Decoding()
    assert list(chunks.passes(1000)) == [(0, 1000)]
    others.decoding_steps = 2
    with chunks.beside(others):
        assert list(chunks.passes(1000)) == [(0, 10), (10, 20), (20, 1000)]


def test_the_clock_stands_still_while_others_have_their_turn() -> None:
    chunks = PrefillChunks(10)
    with chunks.beside(Decoding(step_s=0.2)):
        began, real = chunks.clock(), time.monotonic()
        assert chunks.step() and time.monotonic() - real >= 0.2
        assert chunks.clock() - began < 0.1


def test_others_decode_while_a_text_is_tokenized(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = cutting(runtime, None, mode="full")
    expected = decoded(engine, started(engine, 0, 1))
    others, plan = Decoding.of(engine), Planner.plan

    def planned(planner: Planner, request: GenerateRequest) -> Plan:
        end = time.monotonic() + 60
        while others.steps < 5 and time.monotonic() < end:
            time.sleep(0.001)
        return plan(planner, request)

    monkeypatch.setattr(Planner, "plan", planned)
    assert decoded(engine, beside(engine, others, 0, 1)) == expected
    assert others.steps - others.shared >= 5, "tokens that were no rows of the prompt's passes"
    monkeypatch.undo()
    assert_as_alone(others)


def test_a_text_that_takes_longer_than_there_is_time_is_not_waited_for(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, tokenized = cutting(runtime, None, mode="full"), threading.Event()
    monkeypatch.setattr(Planner, "plan", lambda planner, request: tokenized.wait(60))
    with pytest.raises(ExpiredError):
        engine.start(request(0), time.monotonic() + 0.05)
    tokenized.set()


@pytest.mark.parametrize(
    ("runtime", "chunk"), [("llama", 16), ("gemma2", 40)], indirect=["runtime"]
)
def test_a_full_prefill_is_cut_as_configured(runtime: Runtime, rows: Rows, chunk: int) -> None:
    engine = cutting(runtime, None, mode="full", prefill_chunk_tokens=chunk)
    expected = decoded(engine, alone := started(engine, 0, 1))
    assert rows[0] == alone.num_prompt, "nobody else decodes: one pass"
    others = Decoding.of(engine)
    rows.clear()
    found = beside(engine, others, 0, 1)
    full, rest = divmod(alone.num_prompt, chunk)
    assert rows == [chunk] * full + ([rest] if rest else [])
    assert others.steps == others.shared == len(rows), "a token in every pass"
    assert decoded(engine, found) == expected


def test_the_tokens_of_the_real_model_are_those_of_one_pass(
    decoder: Decoder, client: LocalStoreClient, rows: Rows, tmp_path: Path
) -> None:
    runtime = runtime_of(decoder, tmp_path)
    full = cutting(runtime, None, mode="full")
    engine = cutting(runtime, client, prefill_chunk_tokens=64)
    expected = decoded(full, started(full, 0, 1))
    for hits in (0, 3):
        others = Decoding.of(engine)
        rows.clear()
        sequence = beside(engine, others, 0, 1)
        assert max(rows) <= 64 and others.shared > 0 and sequence.cache.dram_hits == hits
        assert decoded(engine, sequence) == expected


@pytest.mark.parametrize("runtime", ["llama", "gemma2"], indirect=True)
@pytest.mark.parametrize("overlap", ["none", "both", "request"])
def test_exact_prefixes_are_computed_and_stored_in_turns(
    runtime: Runtime, client: LocalStoreClient, store: KVStore, rows: Rows, overlap: str
) -> None:
    full = cutting(runtime, None, mode="full")
    engine = cutting(runtime, client, overlap=overlap)
    reused: list[int] = []
    for order in ((0, 1), (0, 1, 2), (0, 1, 2), (2, 0)):
        expected = decoded(full, started(full, *order))
        others = Decoding.of(engine)
        rows.clear()
        sequence = beside(engine, others, *order)
        if order != (0, 1, 2) or not reused:
            assert_beside(rows, others)
        reused.append(sequence.cache.dram_hits)
        assert decoded(engine, sequence) == expected
    engine.close()
    assert reused == [0, 3, 4, 1], "what was computed in turns is found again"
    assert store.check().ok


def test_a_pass_that_fails_with_the_tokens_of_others_is_tried_without_them(
    runtime: Runtime, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = cutting(runtime, None, mode="full")
    expected = decoded(engine, started(engine, 0, 1))
    others = Decoding.of(engine)
    rows.clear()
    keep, failures = Batch.keep, iter([False] * 20 + [True])

    def kept(batch: Batch, layer: int, k: Tensor, v: Tensor) -> None:
        if decodes(batch) and next(failures, False):
            raise RuntimeError("one of the others is at fault")
        keep(batch, layer, k, v)

    monkeypatch.setattr(Batch, "keep", kept)
    found = beside(engine, others, 0, 1)
    failed = 20 // runtime.decoder.layout.num_layers
    assert rows[failed] == rows[failed + 1] == CHUNK
    assert (others.steps, others.shared) == (len(rows) - 1, len(rows) - 2)
    assert decoded(engine, found) == expected
    assert_as_alone(others)


def test_a_pass_that_is_to_be_invariant_has_no_rows_of_others(runtime: Runtime) -> None:
    engine = cutting(runtime, None)
    others = Decoding.of(engine)
    kv = runtime.decoder.empty_kv(8)
    with engine.chunks.beside(others):
        for invariant, shared in ((False, 1), (True, 1)):
            batch = Batch([behind(kv, 0, [5] * 8)], invariant=invariant)
            assert len(engine.chunks.forward(runtime.decoder, batch)) == 8
            assert others.shared == shared


def test_canonical_order_takes_turns(
    runtime: Runtime, client: LocalStoreClient, rows: Rows
) -> None:
    engine = cutting(runtime, client, passage_order="canonical")
    started(engine, 1)
    others = Decoding.of(engine)
    rows.clear()
    sequence = beside(engine, others, 0, 1)
    assert_beside(rows, others)
    assert decoded(engine, sequence) == decoded(engine, started(engine, 1, 0))


@pytest.mark.parametrize("rule", ["mixed", "query_guided", "cacheblend", "epic", "random"])
def test_fusion_computes_and_chooses_in_turns(
    runtime: Runtime, client: LocalStoreClient, store: KVStore, rows: Rows, rule: SelectionRule
) -> None:
    changes = {"mode": "fusion", "fusion": FusionConfig(ratio=0.4, selection=rule)}
    engine = cutting(runtime, client, **changes)
    others = Decoding.of(engine)
    rows.clear()  # the rotation was tried with some passes
    cold = beside(engine, others, 0, 1, 2)
    assert_beside(rows, others)
    rows.clear()
    expected = started(engine, 0, 1, 2)
    assert max(rows) > CHUNK
    others = Decoding.of(engine)
    rows.clear()
    warm = beside(engine, others, 0, 1, 2)
    assert_beside(rows, others)
    tokens = decoded(engine, expected)
    assert decoded(engine, cold) == decoded(engine, warm) == tokens
    assert (cold.cache.computed, warm.cache.computed) == (3, 0)
    assert store.check().ok


def test_auto_takes_turns(runtime: Runtime, client: LocalStoreClient, rows: Rows) -> None:
    engine = cutting(runtime, client, mode="auto")
    others = Decoding.of(engine)
    rows.clear()  # the rotation was tried with some passes
    found = beside(engine, others, 0, 1)
    assert_beside(rows, others)
    full = cutting(runtime, None, mode="full")
    assert decoded(engine, found) == decoded(full, started(full, 0, 1))


def test_fused_segments_are_made_in_turns(
    runtime: Runtime, client: LocalStoreClient, store: KVStore, rows: Rows
) -> None:
    engine = cutting(runtime, client, mode="fusion")
    others = Decoding.of(engine)
    rows.clear()  # the rotation was tried with some passes
    with engine.chunks.beside(others):
        made = engine.fuse("t", Neighbourhood(PASSAGES[0], tuple(PASSAGES[1:3])), 60)
    assert made.computed == 1 and store.check().ok
    assert_beside(rows, others)


@pytest.mark.parametrize("mode", ["full", "prefix", "fusion"])
@pytest.mark.parametrize("checks", [0, 1, 12, 40])
def test_a_prefill_that_is_ended_leaves_nothing_behind(
    runtime: Runtime, client: LocalStoreClient, store: KVStore, rows: Rows, mode: str, checks: int
) -> None:
    engine = cutting(runtime, client, mode=mode)
    rows.clear()  # the rotation was tried with some passes
    others = Decoding.of(engine)
    others.ended, others.ended_after = ExpiredError("cancelled"), checks
    rows.clear()
    with pytest.raises(ExpiredError, match="cancelled"):
        beside(engine, others, 0, 1, 2)
    assert others.checks == checks + 1, "it ended at once"
    assert len(rows) <= 1 + checks // runtime.decoder.layout.num_layers
    assert_as_alone(others)
    engine.close()
    assert not store.stats().leases and store.check().ok
    full = cutting(runtime, None, mode="full")
    engine = cutting(runtime, client)
    assert decoded(engine, started(engine, 0, 1, 2)) == decoded(full, started(full, 0, 1, 2))


def test_a_prefill_that_is_alone_ends_between_two_layers(runtime: Runtime, rows: Rows) -> None:
    engine = cutting(runtime, None, mode="full")
    others = Decoding(ended=ExpiredError("cancelled"), ended_after=2, decoding_steps=0)
    prompt = "word " * 200
    asked = GenerateRequest("r", "t", (), (), Sampling(8), 60, raw_prompt=prompt)
    with pytest.raises(ExpiredError), engine.chunks.beside(others):
        engine.start(asked, time.monotonic() + 60)
    assert len(rows) == 1 and rows[0] > 200 and others.checks == 3
