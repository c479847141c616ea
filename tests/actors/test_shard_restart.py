"""A shard that was killed comes back where two arenas do not fit, and after a failed start too."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError

from actors.shard_start import ensure_shard, stop_shard
from actors.store_client import RayStoreClient
from kvstore.config import StoreConfig
from kvstore.errors import KVStoreError, StoreUnavailableError
from kvstore.types import Acquired
from tests.kvstore.segments import (
    assert_right_bytes,
    chain_of,
    compute,
    passage,
    small_config,
    store_path,
)
from tests.kvstore.tmpfs import small_tmpfs
from tests.kvstore.waiting import eventually

pytestmark = [pytest.mark.ray, pytest.mark.slow]
PATH = chain_of([7] * 8, passage(1), passage(2))


@pytest.fixture
def config(cluster: None, tmp_path: Path) -> Iterator[StoreConfig]:
    with small_tmpfs(tmp_path / "shm", 8 * 2**20) as dram_dir:
        config = small_config(tmp_path, dram_dir=str(dram_dir), dram_bytes=5 * 2**20)
        yield config
        stop_shard(ensure_shard(config))


@pytest.fixture
def client(config: StoreConfig) -> Iterator[RayStoreClient]:
    client = RayStoreClient(config)
    store_path(client, PATH)
    yield client
    client.close()


def kill(config: StoreConfig) -> int:
    pid: int = ray.get(ensure_shard(config).process_id.remote(), timeout=20)
    os.kill(pid, signal.SIGKILL)
    return pid


def acquired_within(client: RayStoreClient, seconds: float) -> Acquired:
    give_up = time.monotonic() + seconds
    while True:
        try:
            return compute(client, PATH)
        except KVStoreError:
            assert time.monotonic() < give_up, "the shard did not come back"
            time.sleep(0.2)


def test_a_killed_shard_comes_back_beside_a_client_of_the_former_arena(
    config: StoreConfig, client: RayStoreClient
) -> None:
    pid = kill(config)
    shard = ensure_shard(config)  # and this client makes no call meanwhile
    assert ray.get(shard.process_id.remote(), timeout=20) != pid
    acquired = acquired_within(client, 60)
    assert_right_bytes(client, acquired)
    client.release(acquired.lease_id)
    assert ray.get(shard.check.remote(False), timeout=20).ok


def test_a_shard_whose_start_failed_is_started_anew_by_its_clients(
    cluster: None, tmp_path: Path
) -> None:
    """To Ray an actor whose constructor raised is dead for good, however many restarts it has."""
    config = small_config(tmp_path, dram_dir=str(tmp_path / "shm"))
    (tmp_path / "shm").mkdir()
    client = RayStoreClient(config)
    store_path(client, PATH)
    shard = ensure_shard(config)
    (tmp_path / "shm").rename(tmp_path / "away")
    kill(config)
    assert eventually(lambda: is_dead_for_good(shard), 30)
    with pytest.raises(StoreUnavailableError):
        client.acquire([PATH], 5)
    (tmp_path / "away").rename(tmp_path / "shm")
    acquired = acquired_within(client, 60)
    assert_right_bytes(client, acquired)
    assert client.stats().leases == 1
    client.close()
    stop_shard(ensure_shard(config))


def is_dead_for_good(shard: Any) -> bool:
    try:
        ray.get(shard.process_id.remote(), timeout=20)
    except ActorDiedError:
        return True
    except ActorUnavailableError:
        return False
    return False
