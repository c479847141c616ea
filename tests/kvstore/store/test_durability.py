"""Restarts, damage, slow reads."""

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from kvstore.codec import Header, encode_header
from kvstore.config import StoreConfig
from kvstore.errors import StoreUnavailableError
from kvstore.load import Load
from kvstore.local import LocalStoreClient
from kvstore.reading import Reading
from kvstore.store import KVStore
from kvstore.tiers.folder import Folder
from kvstore.types import HolderId
from tests.kvstore.segments import (
    TRUNK,
    assert_balanced,
    assert_right_bytes,
    bytes_of,
    chain_of,
    compute,
    crcs_of,
    fill,
    passage,
    payload,
    store_path,
)


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
    assert store.stats().ssd.read_bytes == path[0].layout.nbytes
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
    assert store.flush(5)
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


def test_a_file_with_another_idea_of_its_segment_is_a_miss(config: StoreConfig) -> None:
    """A right checksum over a wrong header: a tag that a delete would not find."""
    path = chain_of(passage(1))
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    store_path(client, path)
    client.close()
    store.close()
    (file,) = Path(config.ssd_dir).glob(f"?/?/{path[0].key}*")
    wrong = Header(replace(path[0], tag=b"wrongtag"), crcs_of(path[0]))
    file.write_bytes(encode_header(wrong) + payload(path[0]))
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire([path], 5)
    assert list(acquired.tickets) == [path[0].key] and store.stats().corrupt == 1
    client.close()
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
    disk, layers = threading.Event(), Reading._layers

    def hang(reading: Reading, load: Load) -> Iterator[None]:
        disk.wait(10)
        yield from layers(reading, load)

    monkeypatch.setattr(Reading, "_layers", hang)
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


def test_check_finds_and_repairs_damage_in_memory(store: KVStore, client: LocalStoreClient) -> None:
    spec = chain_of(passage(1))[0]
    acquired = compute(client, (spec,))
    store.flush(5)
    bytes_of(store, acquired, spec.key)[5] ^= 1
    report = store.check()
    assert len(report.problems) == 1 and str(spec.key) in report.problems[0]
    assert store.check(repair=True).repaired == 1
    client.release(acquired.lease_id)
    assert client.acquire([(spec,)], 5).hits[spec.key].tier == "ssd"
    assert_balanced(store)


def test_removed_passages_are_settled_on_the_disk(
    store: KVStore, client: LocalStoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(Folder, "settle", lambda folder: synced.append(folder))
    path = chain_of(passage(1), passage(2))
    store_path(client, path)
    assert store.flush(5)
    assert client.remove_tags([b"nothing!"]) == 0 and not synced
    assert client.remove_tags([path[0].tag]) == 2 and len(synced) == 1


def test_a_folder_that_somebody_removed_costs_no_write(config: StoreConfig) -> None:
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    store_path(client, chain_of(passage(0)))
    assert store.flush(10)
    for number in range(1, 4):
        shutil.rmtree(config.ssd_dir)
        store_path(client, chain_of(passage(number)))
        assert store.flush(10)
    stats = store.stats().ssd
    assert (stats.write_failures, stats.writes_dropped) == (0, 0)
    assert len(list(Path(config.ssd_dir).glob("?/?/*"))) == 1, "what came after the last removal"
    for number in range(4):
        acquired = client.acquire([chain_of(passage(number))], 5)
        assert_right_bytes(client, acquired)
        client.release(acquired.lease_id)
    store.check(repair=True)  # what was removed is gone from the books
    assert_balanced(store)
    client.close()
    store.close()
