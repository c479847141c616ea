"""Canonical order: the longest cached path of a prompt's passages comes first."""

from itertools import permutations
from typing import Literal

from actors.engine.config import DeviceTierConfig, GeneratorConfig
from actors.engine.generate import GenerateEngine
from actors.engine.ordering import canonical
from actors.engine.plan import Planner
from actors.engine.runtime import Runtime
from actors.engine.segments import Segments
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.actors.engine.device.conftest import pool_tier
from tests.actors.engine.generating import request, started


def engine(
    runtime: Runtime, client: LocalStoreClient, order: Literal["relevance", "canonical"]
) -> GenerateEngine:
    config = GeneratorConfig(passage_order=order)
    return GenerateEngine(runtime, config, client)


def test_passages_that_are_cached_in_another_order_are_reused(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    relevance, ours = engine(runtime, client, "relevance"), engine(runtime, client, "canonical")
    started(relevance, 2, 0, 1)
    found = started(ours, 0, 1, 2, 3)
    assert (found.cache.hits, found.cache.computed) == (4, 1)
    assert started(relevance, 1, 0, 2, 3).cache.hits == 1, "the prompt prefix alone"


def test_the_answer_is_that_of_the_order_that_was_taken(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    relevance, ours = engine(runtime, client, "relevance"), engine(runtime, client, "canonical")
    expected = started(relevance, 2, 0, 1)
    found = started(ours, 1, 2, 0)
    assert found.last == expected.last and found.cache.computed == 0


def test_the_longest_of_several_paths_is_taken_and_the_rest_keeps_its_order(
    runtime: Runtime, client: LocalStoreClient, store: KVStore
) -> None:
    planner = Planner(runtime.decoder, runtime.prompt, GeneratorConfig())
    segments = Segments(client, pool_tier(DeviceTierConfig()))
    relevance = engine(runtime, client, "relevance")
    for cached in ((0,), (1, 0), (3, 1, 0)):
        started(relevance, *cached)
    before = store.stats()
    for order in list(permutations(range(3))):
        plan = planner.plan(request(*order))
        found = canonical(plan, segments, runtime.decoder.layout)
        best = [plan.pieces.index(piece) - 1 for piece in found.pieces[1:]]
        assert [order[i] for i in best] == [1, 0, 2]
        assert found.path == planner.plan(request(*(order[i] for i in best))).path
    assert store.stats().dram.hits == before.dram.hits, "looking counts as no use"


def test_nothing_changes_where_nothing_is_cached_or_the_store_is_gone(
    runtime: Runtime, client: LocalStoreClient, store: KVStore
) -> None:
    planner = Planner(runtime.decoder, runtime.prompt, GeneratorConfig())
    segments = Segments(client, pool_tier(DeviceTierConfig()))
    plan = planner.plan(request(2, 0, 1))
    assert canonical(plan, segments, runtime.decoder.layout) == plan
    store.close()
    assert canonical(plan, segments, runtime.decoder.layout) == plan
