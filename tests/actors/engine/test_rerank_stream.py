"""Passages that the SSD is still reading: computed over layer by layer, right whatever comes."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from actors.engine.config import RerankerConfig
from actors.engine.rerank import RerankEngine
from actors.engine.runtime import Runtime
from actors.messages import RerankResult
from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.actors.engine.texts import PASSAGES, QUESTIONS
from tests.kvstore.turnstile import Turnstile

TEXTS = PASSAGES[:3]
NUM_SEGMENTS = 1 + 2 * len(TEXTS)
"""Prefix, and passage and fixed suffix of each."""
ALL_FIRST_LAYERS = 2 * NUM_SEGMENTS
"""Reads: header and first layer."""


@dataclass(slots=True)
class Restarted:
    """A store that has the passages on its SSD alone, behind a turnstile."""

    engine: RerankEngine
    gate: Turnstile
    expected: tuple[float, ...]

    def score_meanwhile(self) -> tuple[threading.Thread, list[RerankResult]]:
        results: list[RerankResult] = []

        def score() -> None:
            results.append(self.engine.score("t", QUESTIONS[0], TEXTS, 60))

        thread = threading.Thread(target=score)
        thread.start()
        return thread, results


@contextmanager
def _opened(tmp_path: Path) -> Iterator[tuple[KVStore, LocalStoreClient]]:
    config = StoreConfig(
        dram_bytes=256 * 2**20, dram_dir=str(tmp_path), ssd_dir=str(tmp_path / "ssd")
    )
    store = KVStore(config, node="test")
    client = LocalStoreClient(store, str(tmp_path))
    try:
        yield store, client
        assert store.check().ok
    finally:
        client.close()
        store.close()


@pytest.fixture
def restarted(runtime: Runtime, tmp_path: Path) -> Iterator[Restarted]:
    with _opened(tmp_path) as (store, client):
        engine = RerankEngine(runtime, RerankerConfig(), client)
        expected = engine.score("t", QUESTIONS[0], TEXTS, 60).log_likelihoods
        assert store.flush(30)
    with _opened(tmp_path) as (store, client):
        assert store.flush(30)
        engine = RerankEngine(runtime, RerankerConfig(), client)
        yield Restarted(engine, Turnstile.of(store), expected)


def _wait_for_reads(gate: Turnstile, num: int) -> None:
    give_up = time.monotonic() + 30
    while gate.num_reads < num:
        assert time.monotonic() < give_up
        time.sleep(0.005)


def test_passages_that_arrive_get_the_same_scores(restarted: Restarted) -> None:
    thread, results = restarted.score_meanwhile()
    restarted.gate.allow(ALL_FIRST_LAYERS)
    _wait_for_reads(restarted.gate, ALL_FIRST_LAYERS)
    time.sleep(0.3)
    assert not results, "later layers are missing"
    restarted.gate.allow()
    thread.join(60)
    assert results[0].log_likelihoods == restarted.expected
    assert (results[0].cache.ssd_hits, results[0].cache.computed) == (len(TEXTS), 0)


@pytest.mark.parametrize("reads", [ALL_FIRST_LAYERS, ALL_FIRST_LAYERS + 40, 3])
def test_a_disk_that_fails_midway_changes_no_score(restarted: Restarted, reads: int) -> None:
    thread, results = restarted.score_meanwhile()
    restarted.gate.allow(reads)
    _wait_for_reads(restarted.gate, reads)
    restarted.gate.fail()
    thread.join(60)
    assert results[0].log_likelihoods == pytest.approx(restarted.expected, abs=1e-3)
    assert results[0].cache.computed > 0
    restarted.gate.mend()
    restarted.gate.allow()
