"""A node keeps what it owns; of what others own it has copies, in DRAM alone and under a bound."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path as FilePath

import pytest

from kvstore.config import StoreConfig
from kvstore.errors import StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import HolderId, Path, SegmentKey
from tests.kvstore.segments import (
    TRUNK,
    assert_balanced,
    assert_right_bytes,
    chain_of,
    compute,
    passage,
    small_config,
    store_path,
)

SEGMENT = 12 * 1024
PATHS = [chain_of(TRUNK, passage(n))[1:] for n in range(40)]
"""One segment each, with a placement of its own, as they travel between nodes."""


def other(keys: Sequence[SegmentKey]) -> list[bool]:
    """A cluster in which this node owns nothing."""
    return [False] * len(keys)


def owned(*paths: Path) -> set[bytes]:
    return {path[-1].key.placement for path in paths}


@pytest.fixture
def room_for_four(config: StoreConfig) -> StoreConfig:
    return replace(config, copies_share=4.5 * SEGMENT / config.dram_bytes)


@pytest.fixture
def copying(room_for_four: StoreConfig) -> Iterator[KVStore]:
    store = KVStore(room_for_four, "node")
    assert store.flush(10)
    store.own(other)
    yield store
    assert_balanced(store)
    store.close()


def test_copies_stay_in_dram_under_their_bound_and_the_least_recently_used_goes(
    copying: KVStore, config: StoreConfig
) -> None:
    client = LocalStoreClient(copying, config.dram_dir)
    for path in PATHS[:4]:
        store_path(client, path)
    store_path(client, PATHS[0])  # a use
    assert copying.take_uses_of_copies() == [PATHS[0][0].key], "for its owner to know"
    assert copying.take_uses_of_copies() == []
    assert copying.stats().copies_bytes == 4 * SEGMENT
    store_path(client, PATHS[4])
    assert copying.stats().copies_bytes == 4 * SEGMENT
    there = copying.locate([path[0].key for path in PATHS])
    assert set(there) == {PATHS[n][0].key for n in (0, 2, 3, 4)}, "the second went"
    assert copying.flush(10)
    stats = copying.stats()
    assert stats.ssd.num_segments == 0 and stats.dram.evictions == 1
    client.close()


def test_what_is_held_is_not_evicted_for_a_copy(copying: KVStore, config: StoreConfig) -> None:
    client = LocalStoreClient(copying, config.dram_dir)
    held = [compute(client, path) for path in PATHS[:6]]
    assert copying.stats().dram.num_segments == 6
    client.release(held[0].lease_id)
    assert copying.stats().dram.num_segments == 5
    client.trim({held[1].lease_id: []})
    assert copying.stats().dram.num_segments == 4, "the bound holds again, and nothing had to come"
    for acquired in held[2:]:
        client.release(acquired.lease_id)
    assert copying.stats().dram.num_segments == 4
    client.close()


def test_who_becomes_the_owner_keeps_its_copy_and_writes_it(
    copying: KVStore, config: StoreConfig
) -> None:
    client = LocalStoreClient(copying, config.dram_dir)
    store_path(client, PATHS[0], PATHS[1])
    mine = owned(PATHS[0])
    copying.own(lambda keys: [key.placement in mine for key in keys])
    assert copying.flush(10)
    assert copying.stats().ssd.num_segments == 1
    for path in PATHS[2:10]:
        store_path(client, path)
    assert copying.locate([PATHS[0][0].key]), "it is no copy any more: their bound is not its"
    client.close()


def test_what_was_given_away_leaves_the_disk_and_is_a_copy_from_then_on(
    store: KVStore, client: LocalStoreClient
) -> None:
    path = chain_of(TRUNK, passage(1), passage(2))
    store_path(client, path)
    assert store.flush(10)
    assert {spec.key for spec in store.holdings()} == {spec.key for spec in path}
    store.own(other)
    store.let_go([spec.key for spec in path])
    assert store.stats().ssd.num_segments == 0
    acquired = client.acquire([path], 5)
    assert_right_bytes(client, acquired)
    client.release(acquired.lease_id)
    assert store.flush(10) and store.stats().ssd.num_segments == 0, "a use does not write it again"
    assert_balanced(store)


def test_what_is_no_more_its_own_stays_until_its_owner_has_it(room_for_four: StoreConfig) -> None:
    config = replace(room_for_four, ssd_dir="")
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    keys = [path[0].key for path in PATHS[:7]]
    store_path(client, *PATHS[:7])
    store.own(other)
    store_path(client, *PATHS[:2])
    assert set(store.locate(keys)) == set(keys), "they may be nowhere else"
    mine = owned(PATHS[0])
    store.own(lambda keys: [key.placement in mine for key in keys])
    store.let_go(keys)
    assert set(store.locate(keys)) == {keys[n] for n in (0, 3, 4, 5, 6)}, "four, and its own"
    store_path(client, PATHS[7])
    assert set(store.locate(keys)) == {keys[n] for n in (0, 4, 5, 6)}
    client.close()
    store.close()


def test_only_the_owner_asks_a_shared_tier_for_what_it_has_not_seen(tmp_path: FilePath) -> None:
    bucket = f"file://{tmp_path / 'bucket'}"
    config = small_config(tmp_path, ssd_dir="", remote=bucket)
    writer, reader = (KVStore(config, name) for name in ("writer", "reader"))
    assert writer.flush(10) and reader.flush(10)
    one, two = (LocalStoreClient(store, config.dram_dir) for store in (writer, reader))
    store_path(one, PATHS[0], PATHS[1])
    assert writer.flush(10)
    mine = owned(PATHS[0])
    reader.own(lambda keys: [key.placement in mine for key in keys])
    acquired = two.acquire(PATHS[:2], 5)
    assert {key: hit.tier for key, hit in acquired.hits.items()} == {PATHS[0][0].key: "remote"}
    for client, store in ((one, writer), (two, reader)):
        client.close()
        store.close()


def test_kept_is_what_the_node_owns_and_has_and_no_copy(
    copying: KVStore, config: StoreConfig
) -> None:
    client, keys = LocalStoreClient(copying, config.dram_dir), [path[0].key for path in PATHS]
    store_path(client, *PATHS[:2])
    assert copying.kept(keys) == set(), "copies"
    mine = owned(PATHS[1], PATHS[2])
    copying.own(lambda keys: [key.placement in mine for key in keys])
    assert copying.flush(10)
    assert copying.kept(keys) == {PATHS[1][0].key}
    client.close()


def test_what_raises_is_not_followed(store: KVStore, client: LocalStoreClient) -> None:
    def fails(keys: Sequence[SegmentKey]) -> list[bool]:
        raise RuntimeError("no answer")

    def fails_at_some(keys: Sequence[SegmentKey]) -> list[bool]:
        return fails(keys) if keys else []

    store.own(lambda keys: [False] * len(keys))
    client.release(compute(client, chain_of(passage(1))).lease_id)
    assert store.stats().copies_bytes > 0
    for owns in (fails, fails_at_some):
        with pytest.raises(RuntimeError, match="no answer"):
            store.own(owns)
        client.release(compute(client, chain_of(passage(2))).lease_id)
        store.remove_tags([chain_of(passage(2))[0].tag])
    assert_balanced(store)


def test_a_bound_of_claims_ends_with_its_holder(store: KVStore, config: StoreConfig) -> None:
    with pytest.raises(StoreUnavailableError, match="has no lock"):
        store.bound_claims(HolderId("0" * 16), 4096)
    other = LocalStoreClient(store, config.dram_dir)
    store.bound_claims(other.holder_id, 4096)
    assert store._books.claims._bounds == {other.holder_id: 4096}
    other.close()
    assert store._books.claims._bounds == {}
