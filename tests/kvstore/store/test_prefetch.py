"""What queued requests need comes from the SSD before they do."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

import pytest

from kvstore.config import StoreConfig
from kvstore.errors import TierUnavailableError
from kvstore.load import Load
from kvstore.local import LocalStoreClient
from kvstore.reading import Reading
from kvstore.store import KVStore
from kvstore.types import Path
from tests.kvstore.segments import (
    TRUNK,
    assert_balanced,
    assert_right_bytes,
    chain_of,
    passage,
    small_config,
    store_path,
)
from tests.kvstore.store.streaming import HEADER, LAYERS, Disk, has, reading
from tests.kvstore.store.streaming import PATHS as PATHS_ON_DISK
from tests.kvstore.waiting import eventually

PATHS = [chain_of(TRUNK, passage(i, 64)) for i in range(60)]  # DRAM holds 41 of them
Opened = tuple[KVStore, LocalStoreClient]


@pytest.fixture
def opened(config: StoreConfig) -> Iterator[Opened]:
    """A store whose SSD holds all paths and whose DRAM is empty."""
    yield from reopened(config)


def reopened(config: StoreConfig) -> Iterator[Opened]:
    filled = KVStore(config, "node")
    client = LocalStoreClient(filled, config.dram_dir)
    for path in PATHS:
        store_path(client, path)
        assert filled.flush(5)
    client.close()
    filled.close()
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    yield store, client
    client.close()
    assert_balanced(store)
    store.close()


def in_dram(store: KVStore, path: Path) -> bool:
    with store._books.lock:
        return all(store._books.dram.contains(spec.key) for spec in path)


def settled(store: KVStore) -> None:
    """Nothing is read, and nothing has been for a while."""
    before = -1
    while before != store.stats().prefetch_reads:
        before = store.stats().prefetch_reads
        time.sleep(0.5)


def test_an_announced_path_is_in_dram_when_it_is_asked_for(opened: Opened) -> None:
    store, client = opened
    client.announce("request", PATHS[:3], 60)
    assert eventually(lambda: all(in_dram(store, path) for path in PATHS[:3]), 5)
    acquired = client.acquire(PATHS[:3], 5)
    assert {hit.tier for hit in acquired.hits.values()} == {"dram"} and len(acquired.hits) == 4
    assert_right_bytes(client, acquired)
    stats = store.stats()
    assert (stats.prefetch_reads, stats.prefetch_used, stats.prefetch_late) == (4, 4, 0)
    client.acquire(PATHS[:3], 5)
    assert store.stats().prefetch_used == 4, "only the first use counts"


def test_the_most_urgent_come_first_and_nothing_goes_for_the_less_urgent(opened: Opened) -> None:
    store, client = opened
    client.announce("first", PATHS[:30], 60)
    client.announce("second", PATHS[30:], 60)
    settled(store)
    assert all(in_dram(store, path) for path in PATHS[:30])
    there = sum(in_dram(store, path) for path in PATHS[30:])
    assert 5 < there < 20, "as much of the second's as fits beside the first's"
    assert store.stats().dram.evictions == 0


def test_what_nobody_needs_makes_room(opened: Opened) -> None:
    store, client = opened
    for path in PATHS[10:]:
        client.release(client.acquire([path], 5).lease_id)
    before = store.stats().dram.evictions
    client.announce("request", PATHS[:10], 60)
    assert eventually(lambda: all(in_dram(store, path) for path in PATHS[:10]), 5)
    assert store.stats().dram.evictions >= before + 10


def test_only_so_many_requests_are_looked_at(opened: Opened) -> None:
    store, client = opened
    for i in range(6):
        client.announce(f"request {i}", [PATHS[i]], 60)
    settled(store)
    assert [in_dram(store, PATHS[i]) for i in range(6)] == [True] * 4 + [False] * 2
    client.retire("request 0")
    assert eventually(lambda: in_dram(store, PATHS[4]), 5), "the queue has moved up"
    assert not in_dram(store, PATHS[5])


@pytest.mark.parametrize("changes", [{"lookahead_requests": 0}, {"prefetch": False}])
def test_without_look_ahead_or_prefetch_nothing_is_read(
    tmp_path: FilePath, changes: dict[str, Any]
) -> None:
    for store, client in reopened(small_config(tmp_path, **changes)):
        client.announce("request", PATHS[:3], 60)
        time.sleep(0.3)
        assert store.stats().prefetch_reads == 0 and not in_dram(store, PATHS[0])


class Gate:
    """Reads wait here, as at a slow disk, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open, self.arrived = threading.Event(), threading.Semaphore(0)
        layers = Reading._layers

        def slow(reading: Reading, load: Load) -> Iterator[None]:
            self.arrived.release()
            assert self.open.wait(10)
            yield from layers(reading, load)

        monkeypatch.setattr(Reading, "_layers", slow)


def test_a_request_that_leaves_takes_its_read_along(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store, client), gate = opened, Gate(monkeypatch)
    client.announce("request", PATHS[:1], 60)
    assert gate.arrived.acquire(timeout=5)
    client.retire("request")
    gate.open.set()
    settled(store)
    assert store.stats().ssd.read_bytes == 0 and not in_dram(store, PATHS[0])


def test_who_asks_meanwhile_waits_for_the_same_read(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store, client), gate = opened, Gate(monkeypatch)
    client.announce("request", PATHS[:1], 60)
    assert gate.arrived.acquire(timeout=5)
    threading.Timer(0.2, gate.open.set).start()
    acquired = client.acquire(PATHS[:1], 5)
    assert {hit.tier for hit in acquired.hits.values()} == {"ssd"} and len(acquired.hits) == 2
    assert_right_bytes(client, acquired)
    stats = store.stats()
    assert stats.ssd.read_bytes == sum(spec.layout.nbytes for spec in PATHS[0])
    assert stats.prefetch_late in (1, 2) and stats.prefetch_used == 0, "the next may have begun"


def test_a_failing_disk_is_not_asked_again_and_again(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, client = opened
    attempts = []

    def fail(reading: Reading, load: Load) -> Iterator[None]:
        attempts.append(load.spec.key)
        raise TierUnavailableError("ssd", "EIO")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(Reading, "_layers", fail)
        client.announce("request", PATHS[:1], 60)
        assert eventually(lambda: len(attempts) > 0, 5)
        time.sleep(0.3)
    assert len(attempts) == 1
    acquired = client.acquire(PATHS[:1], 5)
    assert len(acquired.hits) == 2, "who is served reads for itself"


def test_what_is_gone_before_it_is_needed_is_counted(opened: Opened) -> None:
    store, client = opened
    client.announce("request", PATHS[:2], 60)
    assert eventually(lambda: in_dram(store, PATHS[1]), 5)
    client.retire("request")
    for path in PATHS[2:]:
        client.release(client.acquire([path], 5).lease_id)
    stats = store.stats()
    assert stats.prefetch_unused >= 1
    assert stats.prefetch_used + stats.prefetch_unused <= stats.prefetch_reads == 3


class Beside:
    """A disk on which a read ahead has two layers when a request comes that waits for another."""

    def __init__(self, disk: Disk) -> None:
        self.disk, self.ahead = disk, PATHS_ON_DISK[0]
        disk.client.announce("queued", [self.ahead], 60)
        disk.gate.allow(HEADER + 1)
        assert eventually(lambda: self.num_layers == 1, 5)
        self.acquired = disk.streamed()
        disk.gate.allow(1)
        assert eventually(lambda: self.num_layers == 2, 5)
        assert has(disk, self.acquired, 1)

    @property
    def num_layers(self) -> int:
        """Of the read ahead; 0 when there is none."""
        with self.disk.store._books.lock:
            return next((x.num_layers for x in self.disk.store._loads if x.ahead), 0)


def test_a_read_ahead_stands_aside_while_somebody_waits_for_the_disk(disk: Disk) -> None:
    beside = Beside(disk)
    disk.gate.allow(2)
    assert has(disk, beside.acquired, 3)
    time.sleep(0.2)
    assert beside.num_layers == 2, "it could have read two more"
    disk.gate.allow()
    assert has(disk, beside.acquired, LAYERS)
    assert eventually(lambda: in_dram(disk.store, beside.ahead), 5), "then it goes on"


def test_a_read_that_stands_aside_goes_on_for_who_asks_for_it(disk: Disk) -> None:
    beside = Beside(disk)
    disk.gate.allow(1)
    assert has(disk, beside.acquired, 2)
    also = disk.streamed(beside.ahead)
    assert has(disk, also, 2), "beside the other, which is still under way"
    assert not has(disk, beside.acquired, LAYERS - 1, within_s=0.1)
    assert disk.store.stats().prefetch_late == 1


def test_what_stands_aside_ends_with_the_store(config: StoreConfig) -> None:
    disk = Disk(config)
    Beside(disk)
    disk.store.close(0.2)
    disk.gate.allow()
    assert eventually(lambda: not reading(disk.store), 5)
    disk.client.close()
