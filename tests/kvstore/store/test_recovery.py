"""What a predecessor left on the SSD, while it is being listed."""

import os
import threading
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.tiers.folder import Folder
from kvstore.tiers.segment_object import Stored
from kvstore.tiers.slow import SlowTier
from tests.kvstore.segments import (
    assert_balanced,
    assert_right_bytes,
    chain_of,
    compute,
    passage,
    store_path,
)
from tests.kvstore.waiting import eventually

PATHS = [chain_of([7] * 8, passage(i, 64)) for i in range(12)]


class Gate:
    """Recovery waits here, before every segment, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        recover = SlowTier.recover

        def slow(tier: SlowTier) -> Generator[Stored]:
            for stored in recover(tier):
                assert self.open.wait(20)
                yield stored

        monkeypatch.setattr(SlowTier, "recover", slow)


@pytest.fixture
def gate(config: StoreConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Recovery of a folder with all paths stands still."""
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    store_path(client, *PATHS)
    client.close()
    assert store.flush(10)
    store.close()
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


def test_a_segment_is_found_before_it_is_listed(gate: Gate, config: StoreConfig) -> None:
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire(PATHS[:3], 5)
    assert len(acquired.hits) == 4 and store.stats().ssd.num_segments == 4
    assert_right_bytes(client, acquired)
    assert_balanced(store)
    (unchecked,) = store.check().unchecked
    assert unchecked.startswith("ssd: still being listed")
    gate.open.set()
    assert store.flush(10)
    assert store.stats().ssd.num_segments == 13 and store.stats().ssd.hits == 4
    assert_balanced(store)
    client.close()
    store.close()


def test_what_is_computed_meanwhile_is_written_meanwhile(gate: Gate, config: StoreConfig) -> None:
    """More of it than the queue has places, as long as it fits."""
    config = replace(config, write_queue=1)
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    for number in (97, 98, 99):
        acquired = compute(client, chain_of([7] * 8, passage(number)))
        assert eventually(lambda: store.stats().ssd.write_queue == 0, 20)
        client.release(acquired.lease_id)
    assert eventually(lambda: store.stats().ssd.num_segments >= 3, 20)
    assert not store.flush(0), "it still recovers"
    assert store.stats().ssd.writes_dropped == 0
    gate.open.set()
    assert store.flush(10) and store.stats().ssd.num_segments == 16
    assert_balanced(store)
    client.close()
    store.close()


def test_what_would_displace_something_waits_for_the_recovery(
    gate: Gate, config: StoreConfig
) -> None:
    """What goes first is not known before."""
    on_disk = sum(file.stat().st_size for file in Path(config.ssd_dir).glob("?/?/*"))
    store = KVStore(replace(config, ssd_bytes=on_disk + 4096), "node")
    client = LocalStoreClient(store, config.dram_dir)
    acquired = compute(client, chain_of([7] * 8, passage(99)))
    assert not store.flush(0.3) and store.stats().ssd.written_bytes == 0
    assert store.stats().ssd.used_bytes == on_disk
    gate.open.set()
    assert store.flush(10) and store.stats().ssd.written_bytes > 0
    client.release(acquired.lease_id)
    assert_balanced(store)
    assert store.check().unchecked == ()
    client.close()
    store.close()


def test_a_passage_removed_meanwhile_is_gone_afterwards(gate: Gate, config: StoreConfig) -> None:
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    client.remove_tags([PATHS[5][1].tag])
    gate.open.set()
    assert store.flush(10)
    store.close()
    client.close()
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    assert store.flush(10)
    acquired = client.acquire([PATHS[5]], 5)
    assert list(acquired.tickets) == [PATHS[5][1].key]
    assert_balanced(store)
    client.close()
    store.close()


def test_the_oldest_go_first_when_there_is_less_room(gate: Gate, config: StoreConfig) -> None:
    gate.open.set()
    for age, path in enumerate(reversed(PATHS)):
        (file,) = Path(config.ssd_dir).glob(f"?/?/{path[1].key}.*")
        os.utime(file, (1e9 - age, 1e9 - age))
    store = KVStore(replace(config, policy="lru", ssd_bytes=6 * 28672), "node")
    client = LocalStoreClient(store, config.dram_dir)
    assert store.flush(10)
    acquired = client.acquire(PATHS, 5)
    assert set(acquired.hits) == {PATHS[0][0].key, *(path[1].key for path in PATHS[-5:])}
    client.close()
    store.close()


def test_what_does_not_fit_any_more_is_no_fault_until_it_was_trimmed(
    gate: Gate, config: StoreConfig
) -> None:
    store = KVStore(replace(config, ssd_bytes=6 * 28672), "node")
    assert eventually(lambda: store.stats().ssd.used_bytes > 6 * 28672, 20)
    assert store.check().problems == ()
    gate.open.set()
    assert store.flush(10)
    assert_balanced(store)
    store._books.levels[0].tier._max_bytes = 4096
    assert store.check().problems == ("ssd: more than its 4096 bytes used",)
    store.close()


def test_a_store_can_be_closed_while_it_recovers(gate: Gate, config: StoreConfig) -> None:
    store = KVStore(config, "node")
    threading.Timer(0.2, gate.open.set).start()
    store.close(5)
    reopened = KVStore(config, "node")
    assert reopened.flush(10) and reopened.stats().ssd.num_segments == 13
    reopened.close()


def test_the_capacity_is_right_from_the_first_report_on(
    gate: Gate, config: StoreConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a share of what is free, and of what the store itself has taken."""
    files = Path(config.ssd_dir)
    disk_bytes = 2**21
    monkeypatch.setattr(
        Folder,
        "free_bytes",
        lambda own: disk_bytes - sum(file.stat().st_size for file in files.glob("?/?/*")),
    )
    store = KVStore(replace(config, ssd_free_share=0.5), "node")
    assert store.capacity_bytes == store.stats().dram.capacity_bytes + disk_bytes // 2
    gate.open.set()
    assert store.flush(10)
    assert store.capacity_bytes == store.stats().dram.capacity_bytes + disk_bytes // 2
    store.close()
