"""Layers that do not come: a disk that fails, lies or hangs, and a store that ends."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path as FilePath
from random import Random

import pytest

from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired, Hit
from tests.kvstore.media import disk_of
from tests.kvstore.segments import (
    assert_balanced,
    assert_right_bytes,
    compute,
    layer_of,
    right_layer,
    small_config,
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
    settled,
)


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
