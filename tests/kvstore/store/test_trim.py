"""A lease can be kept in part: what device tiers hold beyond a request."""

from pathlib import Path

import pytest

from kvstore.errors import StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.kvstore.segments import (
    assert_balanced,
    chain_of,
    compute,
    passage,
    small_config,
    store_path,
)

A, B, C = (chain_of(passage(i, 64)) for i in range(3))


def others_fill_the_arena(client: LocalStoreClient) -> None:
    for i in range(100, 200):
        store_path(client, chain_of(passage(i, 64)))


def test_what_is_kept_stays_pinned_and_the_rest_can_go(
    store: KVStore, client: LocalStoreClient
) -> None:
    lease = compute(client, A, B, C).lease_id
    store.flush(5)
    client.trim({lease: [A[0].key, C[0].key]})
    others_fill_the_arena(client)
    again = client.acquire([A, B, C], 1)
    assert [again.hits[path[0].key].tier for path in (A, B, C)] == ["dram", "ssd", "dram"]
    assert_balanced(store)
    client.release(again.lease_id)
    client.trim({lease: [A[0].key]})
    client.trim({lease: [A[0].key, C[0].key]})  # late: what is gone does not come back
    others_fill_the_arena(client)
    again = client.acquire([A, C], 1)
    assert [again.hits[path[0].key].tier for path in (A, C)] == ["dram", "ssd"]
    client.release(again.lease_id)
    client.trim({lease: []})
    assert store.stats().leases == 0
    assert_balanced(store)


def test_open_tickets_are_aborted_and_gone_leases_passed_over(
    store: KVStore, client: LocalStoreClient
) -> None:
    store_path(client, A)
    acquired = client.acquire([A, B], 1)
    client.trim({acquired.lease_id: [A[0].key]})
    assert (store.stats().open_tickets, store.stats().aborts, store.stats().leases) == (0, 1, 1)
    with pytest.raises(StoreUnavailableError, match="is not open"):
        client.commit(acquired, list(acquired.tickets.values()))
    client.trim({acquired.lease_id: []})
    client.trim({acquired.lease_id: [A[0].key]})
    assert store.stats().leases == 0


def test_a_use_that_was_told_counts_for_eviction(tmp_path: Path) -> None:
    config = small_config(tmp_path, ssd_dir="", policy="lru")
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    store_path(client, A)
    store_path(client, B)
    client.trim({}, [A[0].key])
    number = 100
    while store.stats().dram.evictions == 0:
        store_path(client, chain_of(passage(number, 64)))
        number += 1
    left = client.acquire([A, B], 1)
    assert set(left.hits) == {A[0].key}
    client.close()
    store.close()
