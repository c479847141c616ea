"""Holders that are killed: what they held comes back, and nobody else notices."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from kvstore.config import StoreConfig
from kvstore.holders import lock_file
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import HolderId, Path
from tests.kvstore.segments import assert_right_bytes, chain_of, compute, fill, passage, store_path
from tests.kvstore.waiting import eventually

_HOLDER = """
import sys, time
from kvstore.holders import Holder
holder = Holder(sys.argv[1])
print(holder.holder_id, flush=True)
time.sleep(60)
"""


class Process:
    """Another process of the node: it holds its lock, the test speaks to the store in its name."""

    def __init__(self, dram_dir: str) -> None:
        command = [sys.executable, "-c", _HOLDER, dram_dir]
        self._child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._child.stdout is not None
        self.holder = HolderId(self._child.stdout.readline().strip())

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()
        if self._child.stdout:
            self._child.stdout.close()


@pytest.fixture
def process(config: StoreConfig) -> Iterator[Process]:
    process = Process(config.dram_dir)
    yield process
    process.kill()


def wait_until_released(store: KVStore) -> None:
    give_up = time.monotonic() + 5
    while store.stats().leases and time.monotonic() < give_up:
        time.sleep(0.02)
    assert store.stats().leases == store.stats().open_tickets == 0


def test_tickets_of_a_killed_process_come_back(
    store: KVStore, client: LocalStoreClient, process: Process
) -> None:
    path: Path = chain_of(passage(1), passage(2))
    claimed = store.acquire([path], process.holder, 1)
    assert len(claimed.tickets) == 2 and store.stats().dram.used_bytes > 0
    waiting = client.acquire([path], 1)
    process.kill()
    client.wait(waiting.waiters, 5)
    client.release(waiting.lease_id)
    wait_until_released(store)
    assert store.stats().dram.used_bytes == 0
    extents = [ticket.extent for ticket in claimed.tickets.values() if ticket.extent]
    assert not client.unchanged(waiting, extents[:1])
    assert_right_bytes(client, compute(client, path))
    assert store.check().ok


def test_pins_of_a_killed_reader_go(
    store: KVStore, client: LocalStoreClient, process: Process
) -> None:
    paths = [chain_of(passage(i, 64)) for i in range(40)]
    for path in paths:
        store_path(client, path)
    kept = store.acquire(paths[-30:], process.holder, 5)
    assert len(kept.hits) == 30
    process.kill()
    wait_until_released(store)
    for i in range(100, 140):
        store_path(client, chain_of(passage(i, 64)))
    assert store.stats().dram.evictions > 30
    assert store.check().ok


def test_an_expired_ticket_keeps_its_extent_until_its_process_ends(
    config: StoreConfig, process: Process, store: KVStore, client: LocalStoreClient
) -> None:
    path = chain_of(passage(1))
    claimed = store.acquire([path], process.holder, 1)
    with store._books.lock:  # sixty seconds of silence
        for silent in store._books.claims.tickets():
            silent.lease.claims_end_at = 0.0
    compute(client, path)
    (ticket,) = claimed.tickets.values()
    assert ticket.extent in store._books.dram.reserved()
    process.kill()
    give_up = time.monotonic() + 5
    while store._books.dram.reserved() and time.monotonic() < give_up:
        time.sleep(0.02)
    assert not store._books.dram.reserved()
    assert store.check().ok


def test_a_closed_client_gives_everything_back(store: KVStore, config: StoreConfig) -> None:
    client = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire([chain_of(passage(1), passage(2))], 1)
    fill(client, acquired, list(acquired.tickets.values())[:1])
    client.commit(acquired, list(acquired.tickets.values())[:1])
    client.close()
    stats = store.stats()
    assert stats.leases == stats.open_tickets == 0 and stats.dram.num_segments == 1
    assert store.check().ok


def test_a_store_killed_while_serving_is_recovered(config: StoreConfig) -> None:
    code = (
        "import os, sys, tests.kvstore.segments as s; from pathlib import Path;"
        "from kvstore.store import KVStore; from kvstore.local import LocalStoreClient;"
        "config = s.small_config(Path(sys.argv[1])); store = KVStore(config, 'node');"
        "client = LocalStoreClient(store, config.dram_dir);"
        "[s.store_path(client, s.chain_of(s.passage(i))) for i in range(30)];"
        "store.flush(5);"
        "[s.store_path(client, s.chain_of(s.passage(i))) for i in range(30, 60)];"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, config.dram_dir], check=False, timeout=60)
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire([chain_of(passage(i)) for i in range(60)], 5)
    assert len(acquired.hits) >= 30 and store.stats().corrupt == 0
    assert_right_bytes(client, acquired)
    client.close()
    assert store.check().ok
    store.close()


def test_a_process_that_dies_before_its_first_call_leaves_no_file(
    store: KVStore, config: StoreConfig, process: Process
) -> None:
    file = lock_file(config.dram_dir, process.holder)
    assert file.exists()
    process.kill()
    assert eventually(lambda: not file.exists(), 10)
