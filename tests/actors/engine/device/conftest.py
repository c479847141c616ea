"""A small store, and both kinds of device tier over it; the pool in a CPU's memory."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from actors.engine.config import DeviceTierConfig
from actors.engine.device import DevicePool, DeviceTier
from actors.engine.device.pooled import PoolTier
from actors.engine.device.retained import RetainedTier
from actors.engine.segments import Segments
from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.kvstore.segments import small_config

CPU = torch.device("cpu")
MakeTier = Callable[[DeviceTierConfig], DeviceTier]
Made = Callable[..., Segments]


def pool_tier(config: DeviceTierConfig) -> DeviceTier:
    return PoolTier(DevicePool(CPU, config.bytes), config)


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


@pytest.fixture(params=["retained", "pool"])
def make_tier(request: pytest.FixtureRequest) -> MakeTier:
    return RetainedTier if request.param == "retained" else pool_tier


@pytest.fixture
def made(client: LocalStoreClient, make_tier: MakeTier) -> Iterator[Made]:
    """Segments over a device tier of these settings; its books balance at the end."""
    tiers: list[DeviceTier] = []

    def make(num_bytes: int = 2**18, **settings: object) -> Segments:
        tiers.append(make_tier(DeviceTierConfig(num_bytes, **settings)))  # type: ignore[arg-type]
        return Segments(client, tiers[-1])

    yield make
    for tier in tiers:
        assert tier.check() == []
