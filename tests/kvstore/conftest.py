"""A small store in a folder of its own, and a client in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.kvstore.segments import small_config


@pytest.fixture
def config(tmp_path: Path) -> StoreConfig:
    return small_config(tmp_path)


@pytest.fixture
def store(config: StoreConfig) -> Iterator[KVStore]:
    store = KVStore(config, "node")
    assert store.flush(10), "it has looked at its folder, which is empty"
    yield store
    store.close()


@pytest.fixture
def client(store: KVStore, config: StoreConfig) -> Iterator[LocalStoreClient]:
    client = LocalStoreClient(store, config.dram_dir)
    yield client
    client.close()
