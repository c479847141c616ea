"""What stays and what goes when room is short."""

import random
from pathlib import Path

import pytest

from kvstore.errors import StoreConfigError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
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


def test_pinned_segments_stay_when_room_is_short(store: KVStore, client: LocalStoreClient) -> None:
    pinned = compute(client, chain_of(passage(0, 64)))
    for i in range(1, 80):
        store_path(client, chain_of(passage(i, 64)))
        assert store.stats().dram.used_bytes <= store.stats().dram.capacity_bytes
    assert store.stats().dram.evictions > 20
    again = client.acquire([chain_of(passage(0, 64))], 1)
    assert len(again.hits) == 1
    assert_right_bytes(client, again)
    extents = [t.extent for t in pinned.tickets.values() if t.extent]
    assert client.unchanged(pinned, extents)
    assert_balanced(store)


def test_without_room_a_ticket_has_no_extent(store: KVStore, client: LocalStoreClient) -> None:
    paths = [chain_of(passage(i, 64), passage(1000 + i, 64)) for i in range(40)]
    acquired = client.acquire(paths, 1)
    without = [t for t in acquired.tickets.values() if t.extent is None]
    assert 0 < len(without) < len(acquired.tickets) == 80 and store.stats().no_room > 0
    for path in paths:
        parent, child = (acquired.tickets[s.key].extent for s in path)
        assert parent is not None or child is None, "a child without its parent is never matched"
    assert not client.acquire(paths[-1:], 1).waiters, "nobody waits for what will not be kept"
    with pytest.raises(ValueError, match="no room"):
        client.writable(acquired, without[0])
    assert_balanced(store)


def test_queued_requests_protect_what_they_need(store: KVStore, client: LocalStoreClient) -> None:
    wanted = chain_of(passage(0, 64))
    store_path(client, wanted)
    store.flush(5)
    client.announce("request", [wanted], 60)
    for i in range(1, 60):
        store_path(client, chain_of(passage(i, 64)))
    acquired = client.acquire([wanted], 1)
    assert [hit.tier for hit in acquired.hits.values()] == ["dram"]
    client.release(acquired.lease_id)
    client.retire("request")
    for i in range(60, 120):
        store_path(client, chain_of(passage(i, 64)))
    assert not store._books.dram.contains(wanted[0].key)


def survivors(tmp_path: Path, **changes: float | str) -> set[int]:
    """Of twelve passages in a store without SSD: what is left of the first two, one used often and
    one announced, when as much as the store holds has come after them."""
    config = small_config(tmp_path, ssd_dir="", **changes)
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    often, announced = chain_of(passage(0, 64)), chain_of(passage(1, 64))
    for _ in range(5):
        store_path(client, often)
    store_path(client, announced)
    client.announce("request", [announced], 60)
    for i in range(2, 60):
        store_path(client, chain_of(passage(i, 64)))
    assert_balanced(store)
    left = {i for i, p in enumerate((often, announced)) if store._books.dram.contains(p[0].key)}
    client.close()
    store.close()
    return left


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"policy": "lru"}, set()),
        ({"policy": "lfu"}, {0}),
        ({"policy": "lookahead_lru"}, {1}),
        ({"policy": "lookahead_lru", "lookahead_requests": 0}, set()),
        ({"policy": "lookahead_pgdsf"}, {0, 1}),
    ],
)
def test_policy_and_look_ahead_decide_what_stays(
    tmp_path: Path, changes: dict[str, float | str], left: set[int]
) -> None:
    assert survivors(tmp_path, **changes) == left


def test_a_missing_profile_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    config = small_config(tmp_path, prefill_profile=str(tmp_path / "absent.json"))
    with pytest.raises(StoreConfigError, match=r"prefill_profile .*absent\.json"):
        KVStore(config, "node")
    KVStore(small_config(tmp_path), "node").close()  # the folder is not held by the first


def test_a_window_of_everything_does_not_stop_the_store(
    store: KVStore, client: LocalStoreClient
) -> None:
    paths = [chain_of(passage(i, 64)) for i in range(80)]
    client.announce("all", paths, 60)
    for path in paths:
        store_path(client, path)
    assert store.stats().commits == 80
    assert_balanced(store)


def test_evicted_segments_come_back_from_the_ssd(store: KVStore, client: LocalStoreClient) -> None:
    paths = [chain_of(passage(i, 64)) for i in range(60)]
    for path in paths:
        store_path(client, path)
        assert store.flush(5)
    acquired = client.acquire(paths[:10], 5)
    assert len(acquired.hits) == 10 and {h.tier for h in acquired.hits.values()} == {"ssd"}
    assert_right_bytes(client, acquired)
    again = client.acquire(paths[:1], 5)
    assert [hit.tier for hit in again.hits.values()] == ["dram"]
    stats = store.stats()
    assert stats.ssd.hits == 10 and stats.ssd.read_bytes == 10 * paths[0][0].layout.nbytes
    assert_balanced(store)


def test_a_full_disk_pauses_writing_and_warns_once(
    store: KVStore,
    client: LocalStoreClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for i in range(5):
        store_path(client, chain_of(passage(i)))
        assert store.flush(5)
    stats = store.stats()
    assert (stats.ssd.write_failures, stats.ssd.writes_dropped) == (1, 4)
    assert sum("No space left" in record.message for record in caplog.records) == 1
    assert client.acquire([chain_of(passage(0))], 1).hits
    assert_balanced(store)


def test_a_store_without_ssd_works(tmp_path: Path) -> None:
    config = small_config(tmp_path, ssd_dir="")
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    for i in range(60):
        store_path(client, chain_of(TRUNK, passage(i, 64)))
    assert store.stats().ssd.capacity_bytes == 0 and store.stats().dram.evictions > 0
    assert_balanced(store)
    client.close()
    store.close()


def test_a_large_segment_takes_its_own_size_from_small_ones(tmp_path: Path) -> None:
    config = small_config(tmp_path, ssd_dir="", policy="lru")
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    num_granules = store.stats().dram.capacity_bytes // 4096
    small = [chain_of(passage(i, 8)) for i in range(num_granules)]  # a granule each
    store_path(client, *small)
    random.Random(1).shuffle(small)
    for path in small:  # used in random order
        client.release(client.acquire([path], 5).lease_id)
    large = chain_of(passage(1000, 120))
    assert large[0].layout.nbytes > 0.04 * config.dram_bytes
    store_path(client, large)
    evicted = store.stats().dram.evictions
    assert evicted == -(-large[0].layout.nbytes // 4096), "and not every second of all"
    assert_balanced(store)
    client.close()
    store.close()


def test_what_cannot_have_room_evicts_nothing(tmp_path: Path) -> None:
    """Every second granule is pinned: no two of the others are neighbours."""
    config = small_config(tmp_path, ssd_dir="")
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    num_granules = store.stats().dram.capacity_bytes // 4096
    small = [chain_of(passage(i, 8)) for i in range(num_granules)]
    store_path(client, *small)
    pinned = client.acquire(small[::2], 5)
    acquired = client.acquire([chain_of(passage(1000, 16))], 5)
    assert [ticket.extent for ticket in acquired.tickets.values()] == [None]
    assert store.stats().dram.evictions == 0 and store.stats().no_room == 1
    client.release(pinned.lease_id)
    client.release(acquired.lease_id)
    store_path(client, chain_of(passage(1000, 16)))
    assert store.stats().dram.evictions == 2
    assert_balanced(store)
    client.close()
    store.close()


def test_a_miss_looks_at_no_pinned_segment(store: KVStore, client: LocalStoreClient) -> None:
    paths = [chain_of(passage(i, 64)) for i in range(40)]
    leases = [compute(client, path) for path in paths]
    assert store.flush(10)
    policy = store._books.dram_shelf.policy
    assert list(policy.order({})) == [], "all are pinned"
    client.release(leases[7].lease_id)
    assert list(policy.order({})) == [paths[7][0].key]
    store.check()
    assert list(policy.order({})) == [paths[7][0].key], "a borrow ends like a pin"
    for lease in leases:
        client.release(lease.lease_id)
    assert list(policy.order({})) == [path[0].key for path in paths]
