"""Hits whose layers are still on their way from the SSD."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path as FilePath
from random import Random

import pytest

from kvstore.codec import header_nbytes
from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired, Hit, Path, SegmentSpec
from tests.kvstore.segments import (
    assert_balanced,
    assert_right_bytes,
    chain_of,
    compute,
    layer_of,
    passage,
    right_layer,
    small_config,
    store_path,
)
from tests.kvstore.tiers.test_faults import disk_of
from tests.kvstore.turnstile import Turnstile

LAYERS = 6
PATH = chain_of(passage(1), layers=LAYERS)
SPEC = PATH[0]
PATHS = [chain_of(passage(i, 16), layers=LAYERS) for i in range(2, 14)]
HEADER = 1
"""Reads of a segment before those of its layers."""


class Disk:
    """A store whose SSD has everything and whose DRAM is empty, behind a turnstile."""

    def __init__(self, config: StoreConfig, **changes: float | str) -> None:
        filled = KVStore(config, "node")
        client = LocalStoreClient(filled, config.dram_dir)
        store_path(client, PATH, *PATHS)
        assert filled.flush(10)
        client.close()
        filled.close()
        self.config = replace(config, **changes)  # type: ignore[arg-type]
        self.store = KVStore(self.config, "node")
        assert self.store.flush(10), "it has read the headers"
        self.client = LocalStoreClient(self.store, config.dram_dir)
        self.gate = Turnstile.of(self.store)

    def streamed(self, *paths: Path) -> Acquired:
        return self.client.acquire(paths or [PATH], 10, streamed=True)

    def spoil(self, spec: SegmentSpec, layer: int) -> None:
        """One bit of a layer on the disk."""
        path = next(FilePath(self.config.ssd_dir).glob(f"?/?/*{spec.key.digest.hex()}*"))
        with path.open("r+b") as file:
            file.seek(header_nbytes(LAYERS) + layer * spec.layout.layer_nbytes)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ 1]))

    def close(self) -> None:
        self.gate.mend()
        self.gate.allow()
        self.client.close()
        settled(self.store)
        assert_balanced(self.store)
        assert self.store.stats().leases == 0
        self.store.close()


@pytest.fixture
def disk(config: StoreConfig) -> Iterator[Disk]:
    disk = Disk(config)
    yield disk
    disk.close()


def settled(store: KVStore) -> None:
    assert eventually(lambda: not reading(store)), "reads have ended"


def reading(store: KVStore) -> list[SegmentSpec]:
    with store._books.lock:
        return [load.spec for load in store._loads]


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> bool:
    give_up = time.monotonic() + within_s
    while not condition() and time.monotonic() < give_up:
        time.sleep(0.002)
    return condition()


def only(acquired: Acquired) -> Hit:
    (hit,) = acquired.hits.values()
    return hit


def has(disk: Disk, acquired: Acquired, layer: int, within_s: float = 10.0) -> bool:
    extents = [hit.extent for hit in acquired.hits.values()]
    return disk.client.await_layer(acquired, extents, layer, within_s)


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


def test_a_read_that_fails_is_seen_at_its_layer(disk: Disk) -> None:
    disk.gate.allow(HEADER + 3)
    acquired = disk.streamed()
    assert has(disk, acquired, 2)
    disk.gate.fail()
    assert not has(disk, acquired, 3)
    assert not disk.client.unchanged(acquired, [only(acquired).extent])
    assert not has(disk, acquired, 0), "nothing of it is to be relied on"
    assert disk.store.stats().corrupt == 0, "a failing disk says nothing about the segment"
    settled(disk.store)
    disk.gate.mend()
    disk.gate.allow()
    again = disk.streamed()
    assert only(again).tier == "ssd"
    assert_right_bytes(disk.client, again)


def test_a_later_layer_that_is_damaged_is_counted_and_set_aside(disk: Disk) -> None:
    disk.spoil(SPEC, 3)
    disk.gate.allow(HEADER + 1)
    acquired = disk.streamed()
    disk.gate.allow()
    assert not has(disk, acquired, 3)
    assert not disk.client.unchanged(acquired, [only(acquired).extent])
    settled(disk.store)
    assert disk.store.stats().corrupt == 1
    assert len(list((FilePath(disk.config.ssd_dir) / "quarantine").iterdir())) == 1
    assert list(disk.streamed().tickets) == [SPEC.key]


@pytest.mark.parametrize("damage", ["first layer", "vanished", "another segment"])
def test_what_does_not_begin_well_is_never_a_hit(disk: Disk, damage: str) -> None:
    disk.gate.allow()
    files = FilePath(disk.config.ssd_dir)
    path = next(files.glob(f"?/?/*{SPEC.key.digest.hex()}*"))
    if damage == "first layer":
        disk.spoil(SPEC, 0)
    elif damage == "vanished":
        path.unlink()
    else:
        other = next(files.glob(f"?/?/*{PATHS[0][0].key.digest.hex()}*"))
        path.write_bytes(other.read_bytes())
    acquired = disk.streamed()
    assert list(acquired.tickets) == [SPEC.key] and not acquired.hits
    assert disk.store.stats().corrupt == (damage != "vanished")


def test_what_has_not_begun_in_time_is_a_ticket(disk: Disk) -> None:
    disk.gate.allow(HEADER)
    acquired = disk.client.acquire([PATH], 0.1, streamed=True)
    assert list(acquired.tickets) == [SPEC.key] and not acquired.hits


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


def test_a_hanging_read_costs_a_reader_the_read_timeout(config: StoreConfig) -> None:
    disk = Disk(config, read_timeout_s=0.3)
    disk.gate.allow(HEADER + 2)
    acquired = disk.streamed()
    assert has(disk, acquired, 1)
    began = time.monotonic()
    assert not has(disk, acquired, 2, 30)
    assert time.monotonic() - began < 5
    assert disk.store._books.levels[0].slow and disk.streamed().tickets
    disk.gate.allow()
    settled(disk.store)
    assert has(disk, acquired, LAYERS, 0), "it came back, late"
    assert_right_bytes(disk.client, acquired)
    disk.close()


def test_a_store_that_ends_lets_its_readers_go(config: StoreConfig) -> None:
    disk = Disk(config)
    disk.gate.allow(HEADER + 1)
    acquired = disk.streamed()
    disk.store.close(timeout_s=0.1)
    began = time.monotonic()
    assert not has(disk, acquired, 1, 30)
    assert time.monotonic() - began < 5
    disk.gate.allow()


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
    assert {digest for digest, n in store._books.awaited.items() if n} >= {
        spec.key.digest for spec in path[:2]
    }
    disk.gate.allow()
    settled(store)
    assert_right_bytes(disk.client, disk.streamed(path))
    disk.close()


def test_who_streams_joins_what_is_read_ahead(disk: Disk) -> None:
    disk.client.announce("queued", [PATH], 60)
    assert eventually(lambda: bool(reading(disk.store)))
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


def test_no_wrong_layer_is_read_along_on_a_disk_that_fails(tmp_path: FilePath) -> None:
    faults = ("read delay 0.004", "read flip share 0.03", "read eio share 0.03")
    config = small_config(tmp_path, dram_bytes=2**17, faults=faults)
    store = KVStore(config, "node")

    def run(seed: int) -> Counter[str]:
        client, rng, seen = LocalStoreClient(store, config.dram_dir), Random(seed), Counter[str]()
        for _ in range(60):
            acquired = compute(client, *rng.sample(PATHS, 3), streamed=True)
            for hit in acquired.hits.values():
                seen["arriving"] += hit.arriving
                seen["lost"] += not reads_along(client, acquired, hit)
            if rng.random() < 0.1:
                client.remove_tags([rng.choice(PATHS)[0].tag])
            client.release(acquired.lease_id)
        client.close()
        return seen

    with ThreadPoolExecutor(4) as pool:
        seen = sum(pool.map(run, range(4)), Counter[str]())
    assert seen["arriving"] > seen["lost"] > 0
    assert store.stats().leases == store.stats().open_tickets == 0
    disk_of(store).heal()
    assert_balanced(store)
    store.close()


def reads_along(client: LocalStoreClient, acquired: Acquired, hit: Hit) -> bool:
    """Whether every layer came; what came and stayed is right."""
    for layer in range(LAYERS):
        if not client.await_layer(acquired, [hit.extent], layer, 30):
            return False
        there = layer_of(client, acquired, hit, layer)
        assert there == right_layer(hit.spec, layer) or not client.unchanged(acquired, [hit.extent])
    return client.unchanged(acquired, [hit.extent])
