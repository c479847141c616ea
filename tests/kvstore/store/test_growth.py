"""No dict of a store grows with its segments: the insertion that makes one grow copies all of it,
and the lock is held meanwhile.
"""

import gc
from collections.abc import Collection, Iterator
from pathlib import Path as FilePath
from types import FunctionType, ModuleType

import pytest

from kvstore.local import LocalStoreClient
from kvstore.parts import Parts
from kvstore.store import KVStore
from kvstore.tiers.base import Entry
from kvstore.tiers.segment_object import Stored
from kvstore.types import Path
from tests.bench.store_attack.tiny import fill, passages
from tests.kvstore.segments import small_config

NUM = 2**14
MOST = NUM // 30
"""Entries of one dict or set. A lease of one call has 513."""
_SAMPLE = 512
"""Members of a container that are looked into; the others are of the same kind."""


@pytest.fixture(scope="module")
def paths() -> list[Path]:
    return passages(NUM - 1)


@pytest.fixture(params=[""])
def store(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[KVStore]:
    """With a slow tier where the parameter names a folder for it."""
    monkeypatch.setattr("kvstore.turns._PAUSE_S", 0.0)
    ssd_dir = request.param and str(tmp_path / request.param)
    config = small_config(
        tmp_path, dram_bytes=(NUM + 200) * 4096, ssd_dir=ssd_dir, copies_share=1.0
    )
    store = KVStore(config, "node")
    assert store.flush(30)
    yield store
    store.close()


def containers(root: object) -> list[Collection[object]]:
    """All dicts, sets and dicts in parts that can be reached, whoever has them."""
    found, seen, todo = list[Collection[object]](), {id(root)}, [root]
    while todo:
        one = todo.pop()
        if isinstance(one, dict | set | Parts):
            found.append(one)
        for other in gc.get_referents(one)[:_SAMPLE]:
            is_code = isinstance(other, type | FunctionType | ModuleType)
            if id(other) not in seen and not is_code and gc.is_tracked(other):
                seen.add(id(other))
                todo.append(other)
    return found


def assert_in_parts(store: KVStore, num: int = NUM - 1) -> None:
    found = containers(store._books)
    large = [one for one in found if not isinstance(one, Parts) and len(one) > MOST]
    assert not large, [(type(one), len(one), next(iter(one))) for one in large]
    assert sum(isinstance(one, Parts) and len(one) >= num for one in found) >= 3


@pytest.mark.parametrize("is_own", [True, False])
def test_segments_that_are_held_copied_and_removed(
    store: KVStore, paths: list[Path], is_own: bool
) -> None:
    client = LocalStoreClient(store, store._books.dram.arena.path.rpartition("/")[0])
    store.own(lambda keys: [is_own] * len(keys))
    leases = fill(client, paths)
    assert store.stats().dram.num_segments == NUM
    assert_in_parts(store)
    assert store.remove_tags([path[-1].tag for path in paths]) == NUM - 1
    assert_in_parts(store)
    for lease_id in leases:
        client.release(lease_id)
    client.close()


@pytest.mark.parametrize("store", ["ssd"], indirect=True)
def test_segments_of_a_slow_tier(store: KVStore, paths: list[Path]) -> None:
    books, (level,) = store._books, store._books.levels
    stored = [Stored(Entry(path[-1], 4096, 0.0), str(path[-1].key), True) for path in paths]
    with books.lock:
        level.tier._ledger.listed({one.name: 4096 for one in stored})
        for one in stored:
            level.adopt(one, recovered=True)
        level.tombstones.add([one.entry.spec.tag for one in stored], [])
        level.tombstones.add([], [one.entry.key for one in stored])
        assert_in_parts(store)
        for one in stored:
            assert level.detach(one.entry.key) is one
        assert_in_parts(store)
        for one in stored:
            level.tier._ledger.left(one)
        level.tombstones.lift(level.tombstones.version)
