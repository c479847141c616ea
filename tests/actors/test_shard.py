"""The shard on a real local Ray: workers share segments, and a killed shard comes back."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import pytest
import ray

from actors.shard_start import ensure_shard, stop_shard
from actors.store_client import RayStoreClient
from kvstore.config import StoreConfig
from kvstore.errors import DeadlineError, StoreConfigError, StoreUnavailableError
from kvstore.types import Acquired, Path, SegmentKey
from tests.kvstore.segments import (
    assert_right_bytes,
    chain_of,
    compute,
    layer_of,
    passage,
    right_layer,
    small_config,
    store_path,
)

pytestmark = [pytest.mark.ray, pytest.mark.slow]
PATH = chain_of([7] * 8, passage(1), passage(2))


@pytest.fixture
def config(cluster: None, tmp_path: FilePath) -> Iterator[StoreConfig]:
    config = small_config(tmp_path)
    yield config
    stop_shard(ensure_shard(config))
    assert not list(tmp_path.glob("hyperrag-store-*")), "the arena's memory was given back"


class Worker:
    """An engine's process."""

    def __init__(self, config: StoreConfig) -> None:
        self._client = RayStoreClient(config)

    def compute(self, num_segments: int) -> dict[SegmentKey, str]:
        """What of the path's head was found where; 'computed' for the rest."""
        acquired = compute(self._client, PATH[:num_segments])
        while acquired.waiters:
            self._client.release(acquired.lease_id)
            self._client.wait(acquired.waiters, 10)
            acquired = compute(self._client, PATH[:num_segments])
        assert_right_bytes(self._client, acquired)
        self._client.release(acquired.lease_id)
        found: dict[SegmentKey, str] = {key: hit.tier for key, hit in acquired.hits.items()}
        return found | dict.fromkeys(acquired.tickets, "computed")

    def claim_and_die(self) -> None:
        self._client.acquire([PATH], 5)
        os.kill(os.getpid(), signal.SIGKILL)


def worker(config: StoreConfig) -> Any:
    return ray.remote(Worker).options(num_cpus=0.1).remote(config)


def test_two_processes_share_segments(config: StoreConfig) -> None:
    one, two = worker(config), worker(config)
    found = ray.get([w.compute.remote(3) for w in (one, two)], timeout=60)
    states = sorted(sorted(f.values()) for f in found)
    assert states == [["computed"] * 3, ["dram"] * 3]
    client = RayStoreClient(config)
    stats = client.stats()
    assert stats.commits == 3 and stats.leases == 0
    acquired = client.acquire([PATH], 5)
    assert_right_bytes(client, acquired)
    view = client.view(acquired, acquired.hits[PATH[0].key].extent)
    assert not view.readonly and view.obj is not None, "a view of the map, not a copy"
    client.close()


def test_a_killed_worker_holds_nothing(config: StoreConfig) -> None:
    doomed = worker(config)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(doomed.claim_and_die.remote(), timeout=60)
    client = RayStoreClient(config)
    client.wait([spec.key for spec in PATH], 10)
    acquired = compute(client, PATH)
    assert len(acquired.tickets) == 3
    client.close()


def test_a_killed_shard_comes_back_with_its_ssd(config: StoreConfig) -> None:
    client = RayStoreClient(config)
    store_path(client, PATH)
    shard = ensure_shard(config)
    assert ray.get(shard.flush.remote(10.0), timeout=20)
    reading = client.acquire([PATH], 5)
    view = client.view(reading, reading.hits[PATH[1].key].extent)
    before = bytes(view)
    os.kill(ray.get(shard.process_id.remote(), timeout=20), signal.SIGKILL)
    acquired = acquire_after_restart(client)
    assert acquired.arena.incarnation != reading.arena.incarnation
    assert [hit.tier for hit in acquired.hits.values()] == ["ssd"] * 3
    assert_right_bytes(client, acquired)
    assert bytes(view) == before, "what was read from the old arena stays right"
    assert_right_bytes(client, reading)
    client.release(reading.lease_id)
    client.release(acquired.lease_id)
    assert ray.get(shard.check.remote(False), timeout=20).ok
    client.close()


def test_hits_arrive_layer_by_layer_in_another_process(config: StoreConfig) -> None:
    """And who reads along when the shard is killed does not wait for it."""
    slow = replace(config, faults=("read delay 1",))
    client, shard, path = RayStoreClient(slow), ensure_shard(slow), chain_of([3], layers=6)
    store_path(client, path)
    assert ray.get(shard.flush.remote(10.0), timeout=20)
    os.kill(ray.get(shard.process_id.remote(), timeout=20), signal.SIGKILL)
    acquired = acquire_after_restart(client, path, streamed=True)
    (hit,) = acquired.hits.values()
    assert (hit.arriving, hit.tier) == (True, "ssd")
    for layer in range(2):
        assert client.await_layer(acquired, [hit.extent], layer, 30)
        assert layer_of(client, acquired, hit, layer) == right_layer(path[0], layer)
    os.kill(ray.get(shard.process_id.remote(), timeout=20), signal.SIGKILL)
    began = time.monotonic()
    assert not client.await_layer(acquired, [hit.extent], 5, 60)
    assert time.monotonic() - began < 20
    acquire_after_restart(client, path)
    client.close()


def acquire_after_restart(
    client: RayStoreClient, path: Path = PATH, streamed: bool = False
) -> Acquired:
    give_up = time.monotonic() + 60
    while True:
        try:
            return client.acquire([path], 10, streamed)
        except StoreUnavailableError:
            assert time.monotonic() < give_up, "the shard did not come back"
            time.sleep(0.2)


def test_errors_cross_the_actor_as_they_are(config: StoreConfig) -> None:
    one, two = RayStoreClient(config), RayStoreClient(config)
    acquired = one.acquire([PATH], 5)
    waiting = two.acquire([PATH], 5)
    with pytest.raises(DeadlineError) as caught:
        two.wait(waiting.waiters, 0.1)
    assert type(caught.value) is DeadlineError
    one.release(acquired.lease_id)
    with pytest.raises(StoreUnavailableError, match="is not open"):
        one.commit(acquired, [next(iter(acquired.tickets.values()))])
    one.close()
    two.close()


def test_many_waiters_do_not_keep_the_owner_from_committing(config: StoreConfig) -> None:
    owner, shard = RayStoreClient(config), ensure_shard(config)
    acquired = owner.acquire([PATH], 5)
    waits = [shard.wait.remote(f"{i:016x}", [PATH[0].key], 30.0) for i in range(100)]
    began = time.monotonic()
    owner.abort(acquired, list(acquired.tickets.values()))
    ray.get(waits, timeout=20)
    assert time.monotonic() - began < 10
    owner.close()


def test_a_store_that_cannot_start_says_why(cluster: None, tmp_path: FilePath) -> None:
    config = replace(small_config(tmp_path), dram_bytes=4096)
    with pytest.raises(StoreConfigError, match="too small to hold any segment"):
        ensure_shard(config)


def test_one_process_waits_with_a_part_of_the_threads(config: StoreConfig) -> None:
    """And what another one waits for is not behind it."""
    owner, other, shard = RayStoreClient(config), RayStoreClient(config), ensure_shard(config)
    acquired = owner.acquire([PATH], 5)
    key = PATH[0].key
    greedy = [shard.wait.remote("0" * 16, [key], 60.0) for _ in range(80)]
    with pytest.raises(DeadlineError):
        other.wait([key], 0.5)
    refused, _ = ray.wait(greedy, num_returns=64, timeout=30)
    assert len(refused) == 64, "those beyond its part"
    owner.abort(acquired, list(acquired.tickets.values()))
    ray.wait(greedy, num_returns=len(greedy), timeout=30)
    owner.close()
    other.close()


def test_long_calls_keep_no_other_from_running(config: StoreConfig) -> None:
    """A disk that hangs holds up what looks at all of it, and nothing else."""
    hanging = replace(config, faults=("write delay 5",))
    client, shard = RayStoreClient(hanging), ensure_shard(hanging)
    store_path(client, PATH)
    flushes = [shard.flush.remote(60.0) for _ in range(20)]
    for _ in range(3):
        client.release(client.acquire([PATH], 5).lease_id)
        ray.get(shard.report.remote(), timeout=30)
    assert not ray.wait(flushes, timeout=0)[0]
    client.close()
    os.kill(ray.get(shard.process_id.remote(), timeout=20), signal.SIGKILL)
