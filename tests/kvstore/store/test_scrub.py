"""Bytes that change in memory: who notices, and when."""

import time
from dataclasses import replace

import pytest

from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.kvstore.segments import (
    assert_balanced,
    assert_right_bytes,
    bytes_of,
    chain_of,
    compute,
    passage,
)
from tests.kvstore.waiting import eventually

PATH = chain_of(passage(1), passage(2))


def spoiled(config: StoreConfig) -> tuple[KVStore, LocalStoreClient]:
    """A store with two segments, on the SSD too; a bit of the second has changed in DRAM."""
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    acquired = compute(client, PATH)
    assert store.flush(5)
    bytes_of(store, acquired, PATH[1].key)[77] ^= 4
    client.release(acquired.lease_id)
    return store, client


def closed(store: KVStore, client: LocalStoreClient) -> None:
    client.close()
    assert_balanced(store)
    store.close()


def test_a_hit_is_verified_where_that_is_asked_for(config: StoreConfig) -> None:
    store, client = spoiled(replace(config, verify_dram="always", scrub_bytes_per_s=0))
    acquired = client.acquire([PATH], 5)
    assert [hit.tier for hit in acquired.hits.values()] == ["dram", "ssd"]
    assert_right_bytes(client, acquired)
    assert store.stats().corrupt == 1
    closed(store, client)


def test_without_the_ssd_it_is_computed_again(config: StoreConfig) -> None:
    store, client = spoiled(replace(config, verify_dram="always", ssd_dir=""))
    acquired = client.acquire([PATH], 5)
    assert list(acquired.hits) == [PATH[0].key] and list(acquired.tickets) == [PATH[1].key]
    closed(store, client)


def test_the_scrubber_finds_it_though_nobody_asks(config: StoreConfig) -> None:
    store, client = spoiled(replace(config, scrub_bytes_per_s=1e8))
    assert eventually(lambda: store.stats().corrupt == 1, 10)
    assert store.stats().dram.num_segments == 1
    assert_right_bytes(client, client.acquire([PATH], 5))
    closed(store, client)


@pytest.mark.parametrize("rate", [0.0, 1000.0])
def test_a_scrubber_that_is_off_or_slow_does_not(config: StoreConfig, rate: float) -> None:
    store, client = spoiled(replace(config, scrub_bytes_per_s=rate))
    time.sleep(1.5)
    assert store.stats().corrupt == 0 and store.check(repair=True).repaired == 1
    closed(store, client)


def test_what_is_not_allowed_is_named() -> None:
    with pytest.raises(ValueError, match="store.verify_dram is 'no', must be one of fill, always"):
        StoreConfig(verify_dram="no")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="store.scrub_bytes_per_s is -1, must be 0 or more"):
        StoreConfig(scrub_bytes_per_s=-1)
