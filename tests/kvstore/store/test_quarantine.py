"""What was set aside as damaged goes with its passage."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import SegmentKey
from tests.kvstore.segments import (
    TRUNK,
    assert_balanced,
    chain_of,
    passage,
    small_config,
    store_path,
)
from tests.kvstore.waiting import eventually

GONE, KEPT = chain_of(TRUNK, passage(1), passage(2)), chain_of(TRUNK, passage(3))


@contextmanager
def running(config: StoreConfig) -> Iterator[tuple[KVStore, LocalStoreClient]]:
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    assert store.flush(20)
    yield store, client
    client.close()
    store.close()


def set_aside(config: StoreConfig, at: int, *keys: SegmentKey) -> None:
    """Damages the files of these at a byte, and has the store find that."""
    with running(config) as (store, client):
        store_path(client, GONE, KEPT)
        assert store.flush(20)
    for key in keys:
        (file,) = Path(config.ssd_dir).glob(f"?/?/{key}*")
        data = bytearray(file.read_bytes())
        data[at] ^= 1
        file.write_bytes(data)
    with running(config) as (_, client):
        for path in (GONE, KEPT):
            client.release(client.acquire([path], 5).lease_id)
        assert eventually(lambda: aside(config) == set(keys), 20)


def aside(config: StoreConfig) -> set[SegmentKey]:
    names = [file.name.partition(".")[0] for file in Path(config.ssd_dir).glob("quarantine/*")]
    known = {str(spec.key): spec.key for spec in (*GONE, *KEPT)}
    return {known[name] for name in names}


@pytest.mark.parametrize("removed", [GONE[1].tag, TRUNK], ids=["its own", "nobody's"])
def test_damaged_payload_goes_with_its_passage_and_no_other(
    tmp_path: Path, removed: bytes | list[int]
) -> None:
    config = small_config(tmp_path)
    set_aside(config, -1000, GONE[1].key, KEPT[1].key)
    tag = removed if isinstance(removed, bytes) else bytes(8)
    with running(config) as (store, client):
        client.remove_tags([tag])
        left = {KEPT[1].key} if tag == GONE[1].tag else {GONE[1].key, KEPT[1].key}
        assert aside(config) == left
        assert_balanced(store)


def test_a_damaged_header_goes_with_any_passage(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    set_aside(config, 40, KEPT[1].key)
    with running(config) as (store, client):
        client.remove_tags([bytes(8)])
        assert not aside(config) and store.stats().ssd.tombstones == 0
        assert_balanced(store)
