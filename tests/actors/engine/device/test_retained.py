"""Pins of the arena: bounded, given back, and gone with their arena or their process."""

import time
from pathlib import Path

import pytest

from actors.engine.config import DeviceTierConfig
from actors.engine.device.retained import RetainedTier
from actors.engine.segments import Segments
from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.actors.engine.device.kv import path_of, same, use
from tests.kvstore.segments import assert_balanced, store_path
from tests.kvstore.waiting import eventually


@pytest.fixture
def segments(client: LocalStoreClient) -> Segments:
    return Segments(client, RetainedTier(DeviceTierConfig(2**30)))


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_engines_leave_the_store_its_share_of_the_arena(
    store: KVStore, client: LocalStoreClient, config: StoreConfig, share: float
) -> None:
    other = LocalStoreClient(store, config.dram_dir)
    tier = RetainedTier(DeviceTierConfig(2**30, arena_share=share))
    segments = Segments(client, tier)
    for number in range(100):
        use(segments, path_of(number))
        store_path(other, path_of(1000 + number))
    kept = segments.stats()
    assert share * 0.9 * 2**20 < kept.used_bytes <= kept.capacity_bytes == int(share * 2**20)
    assert store.stats().no_room == 0 and store.stats().dram.evictions > 100
    assert tier.check() == []
    assert_balanced(store)
    other.close()


def test_single_segments_of_a_request_are_unpinned(
    store: KVStore, client: LocalStoreClient, config: StoreConfig
) -> None:
    """Ten passages came under one lease; two are kept when others have taken their place."""
    tier = RetainedTier(DeviceTierConfig(4096 + 10 * 12288, policy="lru"))
    segments = Segments(client, tier)
    use(segments, *(path_of(i) for i in range(10)))
    use(segments, *(path_of(i) for i in range(10, 18)))
    assert store.stats().leases == 2
    store.flush(5)
    other = LocalStoreClient(store, config.dram_dir)
    for number in range(100, 200):
        store_path(other, path_of(number))
    again = other.acquire([path_of(i) for i in range(18)], 5)
    kept = {key for key, hit in again.hits.items() if hit.tier == "dram"}
    assert {path_of(i)[1].key for i in (8, 9, 12, 17)} <= kept
    assert not {path_of(i)[1].key for i in range(8)} & kept
    other.close()
    assert_balanced(store)


def test_a_store_without_room_gets_the_pins_back(store: KVStore, client: LocalStoreClient) -> None:
    segments = Segments(client, RetainedTier(DeviceTierConfig(2**30, arena_share=0.5)))
    use(segments, *(path_of(i) for i in range(30)))
    assert segments.stats().num_segments == 31
    use(segments, *(path_of(i) for i in range(100, 200)))
    assert store.stats().no_room > 0 and store.stats().leases == 0
    assert segments.stats().num_segments == 0
    use(segments, path_of(300))
    assert use(segments, path_of(300)).device_hits == 2, "and then it keeps again"
    assert_balanced(store)


def test_a_restart_of_the_store_empties_the_tier(
    segments: Segments, store: KVStore, client: LocalStoreClient, config: StoreConfig
) -> None:
    use(segments, path_of(1), path_of(2))
    store.flush(5)
    with segments.lease([path_of(1)], time.monotonic() + 5) as lease:
        store.close()
        client._store = KVStore(config, "node")
        assert all(same(lease.tensors[spec.key], spec) for spec in path_of(1))
        assert segments.unchanged(lease), "an arena without an owner does not change"
    report = use(segments, path_of(1), path_of(2))
    assert (report.device_hits, report.ssd_hits) == (0, 3)
    assert use(segments, path_of(1), path_of(2)).device_hits == 3
    assert_balanced(client._store)
    client.close()
    client._store.close()


def test_an_idle_engine_unmaps_the_arena_of_a_store_that_died(
    segments: Segments, store: KVStore, client: LocalStoreClient
) -> None:
    """Its memory may be what the store needs to start again."""
    use(segments, path_of(1), path_of(2))
    with segments.lease([path_of(1)], time.monotonic() + 5) as lease:
        store.close()
        assert eventually(lambda: segments.stats().num_segments == 2, 10), "what is read stays"
        assert all(same(lease.tensors[spec.key], spec) for spec in path_of(1))
        del lease
    assert eventually(lambda: "(deleted)" not in mapped_arenas(), 10)


def mapped_arenas() -> str:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return "\n".join(line for line in lines if "hyperrag-store-" in line)


def test_the_pins_of_a_process_end_with_it(
    segments: Segments, store: KVStore, client: LocalStoreClient, tmp_path: Path
) -> None:
    use(segments, path_of(1))
    assert store.stats().leases == 1
    client._holder.close()  # what the kernel does when the process is killed
    deadline = time.monotonic() + 5
    while store.stats().leases and time.monotonic() < deadline:
        time.sleep(0.02)
    assert store.stats().leases == 0
    assert_balanced(store)


def test_bytes_that_were_reused_under_a_lost_pin_are_seen_and_go(
    segments: Segments, store: KVStore, client: LocalStoreClient, config: StoreConfig
) -> None:
    use(segments, path_of(1))
    assert store.flush(5), "what is on the SSD goes before what is not"
    store.unregister(client.holder_id)
    other = LocalStoreClient(store, config.dram_dir)
    for number in range(100, 200):
        store_path(other, path_of(number, number + 1))
    with segments.lease([path_of(1)], time.monotonic() + 5) as lease:
        assert lease.kept and not segments.unchanged(lease)
    assert use(segments, path_of(1)).device_hits <= 1
    other.close()
    assert_balanced(store)


def test_the_store_hears_of_uses_that_did_not_ask(
    store: KVStore, client: LocalStoreClient, config: StoreConfig
) -> None:
    """Many hits without a call; then one, and what was used outlives what was not."""
    segments = Segments(client, RetainedTier(DeviceTierConfig(2**30)))
    use(segments, path_of(1))
    store_path(client, path_of(2))
    for _ in range(600):
        with segments.lease([path_of(1)], time.monotonic() + 5):
            pass
    segments.forget([])
    store.unregister(client.holder_id)  # unpinned: only its rank keeps it now
    other = LocalStoreClient(store, config.dram_dir)
    number = 100
    while store.stats().dram.evictions == 0:
        store_path(other, path_of(number))
        number += 1
    hits = other.acquire([path_of(1), path_of(2)], 5).hits
    assert hits[path_of(1)[1].key].tier == "dram"
    other.close()
