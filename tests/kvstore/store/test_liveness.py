"""Removal, and holders that fall silent."""

import time
from pathlib import Path

import pytest

from kvstore.errors import StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import HolderId
from tests.kvstore.segments import (
    TRUNK,
    assert_balanced,
    assert_right_bytes,
    chain_of,
    compute,
    fill,
    passage,
    payload,
    small_config,
    store_path,
)


def test_removed_passages_and_their_descendants_are_gone_from_both_tiers(
    store: KVStore, client: LocalStoreClient
) -> None:
    long, other = chain_of(TRUNK, passage(1), passage(2)), chain_of(TRUNK, passage(3))
    elsewhere = chain_of(TRUNK, passage(3), passage(1))
    store_path(client, long, other, elsewhere)
    store.flush(5)
    reading = client.acquire([long], 1)
    assert client.remove_tags([long[1].tag]) == 3
    assert_right_bytes(client, reading)
    acquired = client.acquire([long, elsewhere], 1)
    assert set(acquired.hits) == {long[0].key, other[1].key}
    assert set(acquired.tickets) == {long[1].key, long[2].key, elsewhere[2].key}
    client.release(reading.lease_id)
    client.release(acquired.lease_id)
    store.flush(5)
    assert store.stats().ssd.num_segments == store.stats().dram.num_segments == 2
    assert client.remove_tags([long[1].tag]) == 0
    assert_balanced(store)


def test_a_computation_of_a_removed_passage_is_not_published(
    store: KVStore, client: LocalStoreClient
) -> None:
    path = chain_of(TRUNK, passage(1), passage(2))
    acquired = client.acquire([path], 1)
    client.remove_tags([path[1].tag])
    fill(client, acquired, list(acquired.tickets.values()))
    client.commit(acquired, list(acquired.tickets.values()))
    extent = acquired.tickets[path[2].key].extent
    assert extent and client.view(acquired, extent) == payload(path[2])
    client.release(acquired.lease_id)
    assert set(client.acquire([path], 1).hits) == {path[0].key}
    assert_balanced(store)


def test_a_silent_computation_loses_its_claim_but_not_its_extent(tmp_path: Path) -> None:
    config = small_config(tmp_path, ticket_ttl_s=0.1)
    store = KVStore(config, "node")
    slow, quick = (LocalStoreClient(store, config.dram_dir) for _ in range(2))
    path = chain_of(passage(1))
    late = slow.acquire([path], 1)
    assert quick.acquire([path], 1).waiters
    quick.wait([path[0].key], 5)
    fresh = compute(quick, path)
    assert list(fresh.tickets) == [path[0].key]
    filler = [compute(quick, chain_of(passage(i, 64))) for i in range(2, 60)]
    slow.writable(late, late.tickets[path[0].key])[:] = b"\xff" * path[0].layout.nbytes
    assert_balanced(store)  # the late write hit nobody's bytes
    for acquired in filler:
        quick.release(acquired.lease_id)
    fill(slow, late, list(late.tickets.values()))
    slow.commit(late, list(late.tickets.values()))
    slow.release(late.lease_id)
    quick.release(fresh.lease_id)
    acquired = quick.acquire([path], 1)
    assert_right_bytes(quick, acquired)
    assert_balanced(store)
    store.close()


def test_committing_renews_the_rest_of_the_lease(tmp_path: Path) -> None:
    config = small_config(tmp_path, ticket_ttl_s=0.3)
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    path = chain_of(*[passage(i) for i in range(5)])
    acquired = client.acquire([path], 1)
    for ticket in acquired.tickets.values():
        time.sleep(0.12)
        fill(client, acquired, [ticket])
        client.commit(acquired, [ticket])
        assert client.acquire([path], 1).waiters or ticket.spec == path[-1]
    store.close()


def test_reuse_under_a_reader_is_detected(store: KVStore, client: LocalStoreClient) -> None:
    acquired = compute(client, chain_of(passage(0, 64)))
    extent = next(iter(acquired.tickets.values())).extent
    assert extent is not None and client.unchanged(acquired, [extent])
    client.release(acquired.lease_id)
    assert store.flush(5)  # while it is being written it stays
    for i in range(1, 80):
        store_path(client, chain_of(passage(i, 64)))
    assert not client.unchanged(acquired, [extent])


def test_an_unknown_holder_is_refused(store: KVStore) -> None:
    with pytest.raises(StoreUnavailableError, match="has no lock"):
        store.register(HolderId("0" * 16))
    with pytest.raises(ValueError, match="16 hex digits"):
        store.register(HolderId("../../etc/passwd"))
