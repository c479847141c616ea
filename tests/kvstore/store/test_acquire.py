"""Claims, hits and single flight of one store."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from kvstore.config import StoreConfig
from kvstore.errors import CorruptSegmentError, DeadlineError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import SegmentKey
from tests.kvstore.segments import (
    TRUNK,
    assert_balanced,
    assert_right_bytes,
    chain_of,
    compute,
    fill,
    passage,
    store_path,
)


def test_missing_segments_are_claimed_and_then_hit(
    store: KVStore, client: LocalStoreClient
) -> None:
    path = chain_of(TRUNK, passage(1), passage(2))
    first = client.acquire([path[:2]], 1)
    assert list(first.tickets) == [s.key for s in path[:2]] and not first.hits
    fill(client, first, list(first.tickets.values()))
    client.commit(first, list(first.tickets.values()))
    second = client.acquire([path], 1)
    assert list(second.hits) == [s.key for s in path[:2]]
    assert list(second.tickets) == [path[2].key]
    assert {hit.tier for hit in second.hits.values()} == {"dram"}
    assert_right_bytes(client, second)
    client.release(first.lease_id)
    client.release(second.lease_id)
    client.release(second.lease_id)
    assert store.stats().leases == store.stats().open_tickets == 0
    assert_balanced(store)


def test_only_a_gap_free_prefix_matches(store: KVStore, client: LocalStoreClient) -> None:
    path = chain_of(TRUNK, passage(1), passage(2))
    store_path(client, path)
    store.flush(5)
    with store._books.lock:  # as an eviction out of order would leave it
        slot = store._books.dram.find(path[1].key)
        assert slot is not None
        store._books.withdraw(slot)
        store._books.levels[0].detach(path[1].key)
    acquired = client.acquire([path], 1)
    assert list(acquired.hits) == [path[0].key]
    assert list(acquired.tickets) == [path[1].key, path[2].key]
    assert acquired.tickets[path[2].key].extent is None, "it is there already, behind the hole"
    tickets = [acquired.tickets[path[1].key]]
    fill(client, acquired, tickets)
    client.commit(acquired, tickets)
    client.release(acquired.lease_id)
    again = client.acquire([path], 1)
    assert len(again.hits) == 3
    assert_right_bytes(client, again)


def test_a_segment_that_another_computes_is_waited_for(
    store: KVStore, config: StoreConfig, client: LocalStoreClient
) -> None:
    other = LocalStoreClient(store, config.dram_dir)
    path = chain_of(TRUNK, passage(1), passage(2))
    mine = client.acquire([path[:2]], 1)
    theirs = other.acquire([path, chain_of(TRUNK, passage(3))], 1)
    assert theirs.waiters == {path[0].key} and not theirs.tickets and not theirs.hits
    with pytest.raises(DeadlineError):
        other.wait(theirs.waiters, 0.05)
    timer = threading.Timer(0.05, client.abort, (mine, list(mine.tickets.values())))
    timer.start()
    other.wait([s.key for s in path], 5)
    timer.join()
    assert set(other.acquire([path], 1).tickets) == {s.key for s in path}
    other.close()
    assert_balanced(store)


def test_paths_of_one_call_share_their_claims(client: LocalStoreClient) -> None:
    left, right = chain_of(TRUNK, passage(1)), chain_of(TRUNK, passage(2))
    acquired = client.acquire([left, right, left], 1)
    assert set(acquired.tickets) == {left[0].key, left[1].key, right[1].key}
    assert not acquired.waiters and all(t.extent for t in acquired.tickets.values())


def test_overlapping_paths_from_both_orders_never_deadlock(
    store: KVStore, config: StoreConfig
) -> None:
    paths = [chain_of(TRUNK, passage(i)) for i in range(6)]

    def run(order: int) -> None:
        client = LocalStoreClient(store, config.dram_dir)
        todo = paths if order % 2 else list(reversed(paths))
        for _ in range(10):
            acquired = compute(client, *todo)
            assert_right_bytes(client, acquired)
            client.release(acquired.lease_id)
            if not acquired.waiters:
                break
            client.wait(acquired.waiters, 5)
        client.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    assert store.stats().commits == 7
    assert_balanced(store)


def test_32_concurrent_misses_are_one_computation(store: KVStore, config: StoreConfig) -> None:
    path = chain_of(TRUNK, passage(1))
    computed: Counter[SegmentKey] = Counter()
    start = threading.Barrier(32)

    def run(_: int) -> None:
        client = LocalStoreClient(store, config.dram_dir)
        start.wait(10)
        while True:
            acquired = client.acquire([path], 5)
            tickets = list(acquired.tickets.values())
            if tickets:
                time.sleep(0.02)
                computed.update(list(acquired.tickets))
                fill(client, acquired, tickets)
                client.commit(acquired, tickets)
            assert_right_bytes(client, acquired)
            client.release(acquired.lease_id)
            if not acquired.waiters:
                break
            client.wait(acquired.waiters, 5)
        client.close()

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(run, range(32)))
    assert computed == {spec.key: 1 for spec in path}
    assert_balanced(store)


def test_a_wrong_checksum_is_never_published(store: KVStore, client: LocalStoreClient) -> None:
    spec = chain_of(passage(1))[0]
    acquired = client.acquire([(spec,)], 1)
    fill(client, acquired, list(acquired.tickets.values()))
    with pytest.raises(CorruptSegmentError):
        store.commit([acquired.tickets[spec.key].ticket_id], [(1, 2, 3)], client.holder_id)
    assert list(client.acquire([(spec,)], 1).tickets) == [spec.key], "it can be claimed again"
    client.release(acquired.lease_id)
    assert store.stats().corrupt == 1
    assert_balanced(store)


def test_paths_that_are_no_chains_are_refused(client: LocalStoreClient) -> None:
    one, two = chain_of([1], [2])
    with pytest.raises(ValueError, match="does not follow"):
        client.acquire([(two, one)], 1)
    with pytest.raises(ValueError, match=r"paths\[0\]\[0\].tag is b'x', must be 8 bytes"):
        client.acquire([(replace(one, tag=b"x"),)], 1)


def test_a_layout_that_differs_from_the_asked_one_is_a_miss(
    store: KVStore, client: LocalStoreClient
) -> None:
    spec = chain_of(passage(1))[0]
    store_path(client, (spec,))
    store.flush(5)
    other = replace(spec, layout=replace(spec.layout, dtype="float16"))
    acquired = compute(client, (other,))
    assert list(acquired.tickets) == [spec.key]
    client.release(acquired.lease_id)
    assert client.acquire([(other,)], 1).hits
    store.flush(5)
    assert_balanced(store)


def test_without_a_claim_what_is_missing_stays_missing(
    store: KVStore, client: LocalStoreClient
) -> None:
    path = chain_of(TRUNK, passage(1), passage(2))
    store_path(client, path[:2])
    found = client.acquire([path], 1, claim=False)
    assert list(found.hits) == [s.key for s in path[:2]]
    assert not found.tickets and not found.waiters
    owner = client.acquire([path], 1)
    assert list(owner.tickets) == [path[2].key]
    beside = client.acquire([path], 1, claim=False)
    assert not beside.waiters, "what another computes is missing too"
    for acquired in (found, owner, beside):
        client.release(acquired.lease_id)
    assert_balanced(store)


def test_keys_are_located_in_their_fastest_tier_and_nothing_is_used(
    store: KVStore, client: LocalStoreClient
) -> None:
    path, missing = chain_of(TRUNK, passage(1)), chain_of(TRUNK, passage(2))
    store_path(client, path)
    assert store.flush(5)
    with store._books.lock:
        slot = store._books.dram.find(path[1].key)
        assert slot is not None
        store._books.withdraw(slot)
    before = store.stats()
    keys = [spec.key for spec in (*path, missing[1])]
    assert client.locate(keys) == {path[0].key: "dram", path[1].key: "ssd"}
    after = store.stats()
    assert (after.dram, after.ssd, after.misses) == (before.dram, before.ssd, before.misses)
