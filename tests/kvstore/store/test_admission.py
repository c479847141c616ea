"""Which segments are written to the SSD."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.kvstore.segments import assert_balanced, chain_of, passage, store_path

PATHS = [chain_of(passage(i, 64)) for i in range(60)]


@pytest.fixture
def picky(config: StoreConfig) -> Iterator[tuple[KVStore, LocalStoreClient]]:
    store = KVStore(replace(config, ssd_admission="second_use"), "node")
    client = LocalStoreClient(store, config.dram_dir)
    yield store, client
    client.close()
    assert_balanced(store)
    store.close()


def test_what_is_seen_once_is_not_written(picky: tuple[KVStore, LocalStoreClient]) -> None:
    store, client = picky
    store_path(client, *PATHS[:4])
    assert store.flush(5) and store.stats().ssd.num_segments == 0


def test_a_hit_writes_it(picky: tuple[KVStore, LocalStoreClient]) -> None:
    store, client = picky
    store_path(client, *PATHS[:4])
    store_path(client, *PATHS[:2])
    assert store.flush(5) and store.stats().ssd.num_segments == 2


def test_computing_it_again_writes_it(picky: tuple[KVStore, LocalStoreClient]) -> None:
    store, client = picky
    store_path(client, PATHS[0])
    for path in PATHS[1:]:
        store_path(client, path)
    assert store.stats().dram.evictions and store.flush(5)
    store_path(client, PATHS[0])
    assert store.stats().misses == len(PATHS) + 1 and store.flush(5)
    assert store.stats().ssd.num_segments == 1


def test_by_default_everything_is_written(store: KVStore, client: LocalStoreClient) -> None:
    store_path(client, *PATHS[:4])
    assert store.flush(5) and store.stats().ssd.num_segments == 4


def test_an_unknown_admission_is_refused() -> None:
    with pytest.raises(ValueError, match=r"store.ssd_admission is 'some', must be one of all, se"):
        StoreConfig(ssd_admission="some")  # type: ignore[arg-type]
