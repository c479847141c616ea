"""Mode `auto`: exact where that is about as fast, fusion where it is much faster."""

import pytest

from actors.engine.choice import AutoPrefill
from actors.engine.config import FusionConfig, GeneratorConfig
from actors.engine.generate import GenerateEngine
from actors.engine.runtime import Runtime
from kvstore.local import LocalStoreClient
from tests.actors.engine.generating import started


def engine(runtime: Runtime, client: LocalStoreClient, min_gain: float = 2.0) -> GenerateEngine:
    fusion = FusionConfig(min_gain=min_gain, ratio=0.1)
    return GenerateEngine(runtime, GeneratorConfig(mode="auto", fusion=fusion), client)


def test_what_is_cached_in_order_is_exact_and_what_is_cached_in_another_is_fused(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    raw = GenerateEngine(runtime, GeneratorConfig(mode="fusion"), client)
    started(raw, 0, 1, 2, 3, 4)
    auto = engine(runtime, client)
    first = started(auto, 0, 1, 2, 3, 4)
    assert first.cache.mode == "fusion"
    assert "1 of 5 passages cached in this order" in first.cache.reason
    assert "fusion (5 cached)" in first.cache.reason
    exact = GenerateEngine(runtime, GeneratorConfig(mode="prefix"), client)
    started(exact, 0, 1, 2, 3, 4)
    exact.close()
    again = started(auto, 0, 1, 2, 3, 4)
    assert again.cache.mode == "prefix" and again.cache.computed == 0
    assert "5 of 5 passages cached in this order" in again.cache.reason


def test_nothing_cached_is_computed_exactly(runtime: Runtime, client: LocalStoreClient) -> None:
    assert started(engine(runtime, client), 0, 1, 2).cache.mode == "prefix"


@pytest.mark.parametrize(("min_gain", "mode"), [(1.0, "fusion"), (1000.0, "prefix")])
def test_how_much_faster_is_the_setting_s_to_say(
    runtime: Runtime, client: LocalStoreClient, min_gain: float, mode: str
) -> None:
    started(GenerateEngine(runtime, GeneratorConfig(mode="fusion"), client), 0, 1, 2, 3)
    assert started(engine(runtime, client, min_gain), 3, 2, 1, 0).cache.mode == mode


def test_a_single_passage_is_exact_and_says_why(runtime: Runtime, client: LocalStoreClient) -> None:
    report = started(engine(runtime, client), 2).cache
    assert (report.mode, report.reason) == ("prefix", "there is no second passage")


def test_what_computing_takes_is_learnt(runtime: Runtime, client: LocalStoreClient) -> None:
    auto = engine(runtime, client)
    prefill = auto._prefill
    assert isinstance(prefill, AutoPrefill)
    prefill._pace.learn(1.0, 5_000.0)
    before = prefill._pace.seconds(0, 1000)
    for i in range(5):
        started(auto, i % 3, (i + 1) % 3)
    assert prefill._pace.seconds(0, 1000) < before / 2
