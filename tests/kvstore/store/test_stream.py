"""Hits whose layers are still on their way from the SSD."""

import threading
from dataclasses import replace
from pathlib import Path as FilePath

import pytest

from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.kvstore.segments import (
    assert_right_bytes,
    chain_of,
    layer_of,
    passage,
    right_layer,
    small_config,
    store_path,
)
from tests.kvstore.store.streaming import (
    HEADER,
    LAYERS,
    PATH,
    PATHS,
    SPEC,
    Disk,
    has,
    only,
    reading,
    settled,
)
from tests.kvstore.turnstile import Turnstile
from tests.kvstore.waiting import eventually


def test_a_hit_is_there_with_its_first_layer_and_the_others_follow(disk: Disk) -> None:
    disk.gate.allow(HEADER + 1)
    acquired = disk.streamed()
    hit = only(acquired)
    assert (hit.arriving, hit.tier, disk.gate.num_reads) == (True, "ssd", HEADER + 1)
    for layer in range(LAYERS):
        assert has(disk, acquired, layer)
        assert layer_of(disk.client, acquired, hit, layer) == right_layer(SPEC, layer)
        assert layer == LAYERS - 1 or not has(disk, acquired, layer + 1, 0.01)
        disk.gate.allow(1)
    settled(disk.store)
    assert has(disk, acquired, LAYERS, 0), "whole, and pinned"
    assert disk.client.unchanged(acquired, [hit.extent])
    again = only(disk.streamed())
    assert (again.arriving, again.tier, again.extent) == (False, "dram", hit.extent)
    stats = disk.store.stats()
    assert (stats.ssd.hits, stats.dram.hits, stats.misses) == (1, 1, 0)


def test_the_same_layer_of_all_comes_before_the_next_of_any(disk: Disk) -> None:
    disk.gate.delay_s = 0.01
    disk.gate.allow()
    acquired = disk.streamed(*PATHS)
    assert all(hit.arriving for hit in acquired.hits.values()) and len(acquired.hits) == len(PATHS)
    assert len(reading(disk.store)) == len(PATHS), "none is whole when the last has begun"
    assert_right_bytes(disk.client, acquired)


def test_who_does_not_stream_waits_for_the_whole_segment(disk: Disk) -> None:
    disk.gate.allow(HEADER + 1)
    streamed = disk.streamed()
    other = LocalStoreClient(disk.store, disk.config.dram_dir)
    joined = other.acquire([PATH], 10, streamed=True)
    assert only(joined) == only(streamed), "a second client joins the read"
    threading.Timer(0.2, disk.gate.allow).start()
    whole = other.acquire([PATH], 10)
    assert not only(whole).arriving and only(whole).extent == only(streamed).extent
    for client, acquired in ((disk.client, streamed), (other, joined), (other, whole)):
        assert_right_bytes(client, acquired)
    assert disk.store.stats().ssd.read_bytes == SPEC.layout.nbytes
    other.close()


def test_a_lease_that_ends_early_frees_nothing_under_the_read(disk: Disk) -> None:
    disk.gate.allow(HEADER + 1)
    acquired = disk.streamed()
    extent = only(acquired).extent
    disk.client.release(acquired.lease_id)
    assert extent in disk.store._books.dram.reserved()
    assert disk.store.stats().leases == 0
    disk.gate.allow()
    settled(disk.store)
    slot = disk.store._books.dram.find(SPEC.key)
    assert slot is not None and (slot.extent, slot.pins) == (extent, 0)
    assert_right_bytes(disk.client, disk.streamed())


def test_what_a_trimmed_lease_keeps_is_pinned_when_it_lands(disk: Disk) -> None:
    disk.gate.allow(HEADER + 1)
    acquired = disk.streamed(PATH, PATHS[0])
    client, store = disk.client, disk.store
    client.trim({acquired.lease_id: [SPEC.key]})
    assert store.stats().leases == 1
    disk.gate.allow()
    settled(store)
    kept, dropped = (store._books.dram.find(spec.key) for spec in (SPEC, PATHS[0][0]))
    assert kept is not None and kept.pins == 1 and dropped is not None and dropped.pins == 0
    client.trim({acquired.lease_id: []})
    assert store.stats().leases == kept.pins == 0


def test_a_removed_passage_stays_for_those_who_read_it_and_no_longer(disk: Disk) -> None:
    disk.gate.allow(HEADER + 1)
    acquired = disk.streamed()
    assert disk.client.remove_tags([SPEC.tag]) == 1
    disk.gate.allow()
    assert_right_bytes(disk.client, acquired)
    settled(disk.store)
    used = disk.store.stats().dram.used_bytes
    again = disk.streamed()
    assert list(again.tickets) == [SPEC.key] and not again.hits
    disk.client.release(again.lease_id)
    disk.client.release(acquired.lease_id)
    assert used > disk.store.stats().dram.used_bytes == 0


def test_a_chain_streams_with_its_parents(config: StoreConfig) -> None:
    """And a parent that nobody reads any more stays while its child is on the way."""
    path = chain_of(passage(90), passage(91), passage(92), layers=LAYERS)
    disk = Disk(config)
    disk.gate.allow()
    store_path(disk.client, path)
    assert disk.store.flush(10)
    disk.client.close()
    disk.store.close()
    store = KVStore(disk.config, "node")
    disk.store, disk.client = store, LocalStoreClient(store, disk.config.dram_dir)
    assert store.flush(10)
    disk.gate = Turnstile.of(store)
    disk.gate.allow(HEADER + 1)
    acquired = disk.streamed(path)
    assert [key for key, hit in acquired.hits.items() if hit.arriving] == [s.key for s in path]
    disk.client.release(acquired.lease_id)
    assert all(spec.key.digest in store._books.dram.holds for spec in path[:2])
    disk.gate.allow()
    settled(store)
    assert_right_bytes(disk.client, disk.streamed(path))
    disk.close()


def test_who_streams_joins_what_is_read_ahead(disk: Disk) -> None:
    disk.client.announce("queued", [PATH], 60)
    assert eventually(lambda: bool(reading(disk.store)), 10)
    disk.gate.allow(HEADER + 1)
    acquired = disk.streamed()
    assert only(acquired).arriving
    disk.gate.allow()
    assert_right_bytes(disk.client, acquired)
    settled(disk.store)
    stats = disk.store.stats()
    assert (stats.prefetch_reads, stats.prefetch_late, stats.prefetch_used) == (1, 1, 0)


def test_another_tier_serves_who_waits_and_not_who_reads(config: StoreConfig) -> None:
    """Half of a segment from one tier and half from another would not be one segment."""
    remote = f"file://{config.dram_dir}/remote"
    disk = Disk(replace(config, remote=remote))
    disk.spoil(SPEC, 3)
    disk.gate.allow(HEADER + 1)
    acquired = disk.streamed()
    threading.Timer(0.2, disk.gate.allow).start()
    whole = disk.client.acquire([PATH], 10)
    assert only(whole).tier == "remote" and not only(whole).arriving
    assert_right_bytes(disk.client, whole)
    assert not has(disk, acquired, LAYERS - 1)
    assert not disk.client.unchanged(acquired, [only(acquired).extent])
    disk.client.release(whole.lease_id)
    slot = disk.store._books.dram.find(SPEC.key)
    assert slot is not None and slot.pins == 0 and disk.store.stats().corrupt == 1
    disk.close()


@pytest.mark.parametrize("changes", [{"verify_dram": "always"}, {"ssd_admission": "second_use"}])
def test_settings_of_whole_hits_hold_for_streamed_ones(
    config: StoreConfig, changes: dict[str, str]
) -> None:
    disk = Disk(config, **changes)
    disk.gate.allow()
    for _ in range(2):
        acquired = disk.streamed(PATH, *PATHS)
        assert len(acquired.hits) == 1 + len(PATHS)
        assert_right_bytes(disk.client, acquired)
        disk.client.release(acquired.lease_id)
    disk.close()


def test_layers_of_a_lossy_codec_arrive_decoded(tmp_path: FilePath) -> None:
    whole: list[bytes] = []
    for streamed in (False, True):
        folder = tmp_path / str(streamed)
        folder.mkdir()
        config = small_config(folder, codec="int8")
        disk = Disk(config)
        disk.gate.allow()
        acquired = disk.client.acquire([PATH], 10, streamed)
        assert has(disk, acquired, LAYERS)
        whole.append(bytes(disk.client.view(acquired, only(acquired).extent)))
        disk.close()
    assert whole[0] == whole[1]


def test_reads_beyond_the_open_files_allowed_are_read_whole(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvstore.reading._MAX_TURNS", 0)
    disk.gate.delay_s = 0.01
    disk.gate.allow()
    acquired = disk.streamed(*PATHS)
    assert len(reading(disk.store)) < len(PATHS), "the first are whole when the last begins"
    assert_right_bytes(disk.client, acquired)
