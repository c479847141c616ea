import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from kvstore.config import StoreConfig
from kvstore.errors import CorruptSegmentError, DeadlineError, StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import HolderId, SegmentKey
from tests.kvstore.segments import (
    assert_right_bytes,
    chain_of,
    compute,
    fill,
    passage,
    payload,
    small_config,
    store_path,
)

TRUNK = [7] * 8


def assert_balanced(store: KVStore) -> None:
    report = store.check()
    assert report.ok, report.problems
    stats = store.stats()
    assert stats.dram.used_bytes <= stats.dram.capacity_bytes
    assert stats.ssd.used_bytes <= stats.ssd.capacity_bytes


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
        store._books.detach_file(path[1].key)
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
        store.commit([acquired.tickets[spec.key].ticket_id], [(1, 2, 3)])
    assert list(client.acquire([(spec,)], 1).tickets) == [spec.key], "it can be claimed again"
    client.release(acquired.lease_id)
    assert store.stats().corrupt == 1
    assert_balanced(store)


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
    assert stats.ssd.hits == 10 and stats.ssd_read_bytes == 10 * paths[0][0].layout.nbytes
    assert_balanced(store)


def test_concurrent_reads_of_one_segment_coalesce(config: StoreConfig) -> None:
    path = chain_of(passage(1, 512))
    with_segment = KVStore(config, "node")
    client = LocalStoreClient(with_segment, config.dram_dir)
    store_path(client, path)
    client.close()
    with_segment.close()
    store = KVStore(config, "node")

    def run(_: int) -> str:
        client = LocalStoreClient(store, config.dram_dir)
        acquired = client.acquire([path], 5)
        assert_right_bytes(client, acquired)
        client.close()
        return acquired.hits[path[0].key].tier

    with ThreadPoolExecutor(8) as pool:
        assert "ssd" in list(pool.map(run, range(8)))
    assert store.stats().ssd_read_bytes == path[0].layout.nbytes
    assert_balanced(store)
    store.close()


def test_a_restart_keeps_what_was_committed(config: StoreConfig) -> None:
    path = chain_of(TRUNK, passage(1), passage(2))
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    store_path(client, path)
    client.close()
    store.close()
    assert not list(Path(config.dram_dir).glob("hyperrag-store-*"))
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire([path], 5)
    assert [hit.tier for hit in acquired.hits.values()] == ["ssd"] * 3
    assert_right_bytes(client, acquired)
    assert_balanced(store)
    client.close()
    store.close()
    with pytest.raises(StoreUnavailableError):
        store.acquire([path], HolderId("0" * 16), 1)


def test_a_smaller_ssd_after_a_restart_keeps_its_bound(config: StoreConfig) -> None:
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    paths = [chain_of(passage(i, 64)) for i in range(20)]
    for path in paths:
        store_path(client, path)
    store.close()
    store = KVStore(replace(config, ssd_bytes=10 * 28672), "node")
    client = LocalStoreClient(store, config.dram_dir)
    assert 0 < store.stats().ssd.num_segments <= 10
    assert client.acquire([paths[-1]], 5).hits, "the most recent are kept"
    assert_balanced(store)
    store.close()


def test_a_bit_flip_on_the_ssd_is_a_miss_and_quarantined(config: StoreConfig) -> None:
    path = chain_of(TRUNK, passage(1), passage(2))
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    store_path(client, path)
    client.close()
    store.close()
    (file,) = Path(config.ssd_dir).glob(f"?/?/{path[1].key}*")
    data = bytearray(file.read_bytes())
    data[-1000] ^= 1
    file.write_bytes(data)
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire([path], 5)
    assert list(acquired.hits) == [path[0].key]
    assert set(acquired.tickets) == {path[1].key, path[2].key}
    assert_right_bytes(client, acquired)
    assert store.stats().corrupt == 1
    assert [p.name for p in (Path(config.ssd_dir) / "quarantine").iterdir()] == [file.name]
    fill(client, acquired, [t for t in acquired.tickets.values() if t.extent])
    client.commit(acquired, [t for t in acquired.tickets.values() if t.extent])
    client.release(acquired.lease_id)
    again = client.acquire([path], 5)
    assert_right_bytes(client, again)
    assert len(again.hits) == 3
    store.flush(5)
    assert_balanced(store)
    store.close()


def test_a_read_past_the_deadline_becomes_a_ticket(
    config: StoreConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = chain_of(passage(1), passage(2))
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    store_path(client, path)
    store.close()
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    disk, read = threading.Event(), type(store._loads)._read

    def hang(loads: object, load: object) -> object:
        disk.wait(10)
        return read(loads, load)  # type: ignore[arg-type]

    monkeypatch.setattr(type(store._loads), "_read", hang)
    began = time.monotonic()
    acquired = client.acquire([path], 0.1)
    assert time.monotonic() - began < 2 and not acquired.hits and len(acquired.tickets) == 2
    assert_balanced(store)
    fill(client, acquired, list(acquired.tickets.values()))
    client.commit(acquired, list(acquired.tickets.values()))
    disk.set()
    client.release(acquired.lease_id)
    again = client.acquire([path], 5)
    assert_right_bytes(client, again)
    assert len(again.hits) == 2
    client.close()
    assert_balanced(store)
    store.close()


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
    assert (stats.ssd_write_failures, stats.ssd_writes_dropped) == (1, 4)
    assert sum("No space left" in record.message for record in caplog.records) == 1
    assert client.acquire([chain_of(passage(0))], 1).hits
    assert_balanced(store)


def test_check_finds_and_repairs_damage_in_memory(store: KVStore, client: LocalStoreClient) -> None:
    spec = chain_of(passage(1))[0]
    acquired = compute(client, (spec,))
    store.flush(5)
    client.writable(acquired, acquired.tickets[spec.key])[5] ^= 1
    report = store.check()
    assert len(report.problems) == 1 and str(spec.key) in report.problems[0]
    assert store.check(repair=True).repaired == 1
    client.release(acquired.lease_id)
    assert client.acquire([(spec,)], 5).hits[spec.key].tier == "ssd"
    assert_balanced(store)


def test_paths_that_are_no_chains_are_refused(client: LocalStoreClient) -> None:
    one, two = chain_of([1], [2])
    with pytest.raises(ValueError, match="does not follow"):
        client.acquire([(two, one)], 1)
    with pytest.raises(ValueError, match="fields"):
        client.acquire([(replace(one, tag=b"x"),)], 1)


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


def test_an_unknown_holder_is_refused(store: KVStore) -> None:
    with pytest.raises(StoreUnavailableError, match="has no lock"):
        store.register(HolderId("0" * 16))
    with pytest.raises(ValueError, match="16 hex digits"):
        store.register(HolderId("../../etc/passwd"))


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
