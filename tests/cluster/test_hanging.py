"""Shards that hang while requests need them: what it costs, and that it ends."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import ray

from actors.fetching import Haul
from kvstore.errors import DeadlineError, KVStoreError
from kvstore.types import Path
from tests.cluster.nodes import Engine, Nodes, eventually, nodes
from tests.kvstore.segments import TRUNK, chain_of, passage, small_config

pytestmark = [pytest.mark.ray, pytest.mark.slow]
PATHS = [chain_of(TRUNK, passage(n)) for n in range(1, 41)]
LONG_S = 60.0
"""What a fault would cost; a busy machine costs less."""


class Timing(Engine):
    """Says how long it waited, and stops shards as it asks."""

    def acquire(self, paths: list[Path], deadline_s: float) -> tuple[float, str, int]:
        """Seconds, the name of the error, and how many segments came from other nodes."""
        began = time.monotonic()
        try:
            acquired = self._client.acquire(paths, deadline_s)
        except KVStoreError as error:
            return time.monotonic() - began, type(error).__name__, 0
        seconds = time.monotonic() - began
        self._client.release(acquired.lease_id)
        return seconds, "", sum(hit.tier == "peer" for hit in acquired.hits.values())

    def stop_once_fetched(self, process: int) -> None:
        """This node's shard, from the moment at which the others have answered."""
        fetch = self._client._fetcher.fetch

        def stopping(*args: Any) -> Haul:
            haul = fetch(*args)
            os.kill(process, signal.SIGSTOP)
            return haul

        self._client._fetcher.fetch = stopping  # type: ignore[assignment, method-assign]  # the moment


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("hanging")
    config = small_config(
        folder, ssd_dir=str(folder / "ssd-{node}"), copies_share=0.001, remote_timeout_s=LONG_S
    )
    with nodes(config, "b") as cluster:
        yield cluster


@contextmanager
def stopped(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def process_of(cluster: Nodes, name: str) -> int:
    process: int = ray.get(cluster.shard(name).process_id.remote(), timeout=20)
    return process


def test_a_peer_that_hangs_costs_one_look_and_is_left_alone_until_it_reports(two: Nodes) -> None:
    own = two.owned_by("b", PATHS)[:4]
    ray.get(two.engine("b").use.remote(*own), timeout=60)
    engine = two.engine("a", Timing)
    assert ray.get(engine.acquire.remote(own, LONG_S), timeout=90)[2] > 0
    with stopped(process_of(two, "b")):
        for _ in range(3):
            seconds, error, num_peer = ray.get(engine.acquire.remote(own, LONG_S), timeout=90)
            assert (error, num_peer) == ("", 0) and seconds < LONG_S / 3
    eventually(lambda: ray.get(engine.acquire.remote(own, LONG_S), timeout=90)[2] > 0)


def test_a_shard_that_hangs_under_its_own_engine_costs_no_deadline(two: Nodes) -> None:
    engine = two.engine("a", Timing)
    ray.get(engine.acquire.remote(PATHS[:4], LONG_S), timeout=90)
    with stopped(process_of(two, "a")):
        for _ in range(3):
            seconds, error, _ = ray.get(engine.acquire.remote(PATHS[:4], LONG_S), timeout=120)
            assert error in ("DeadlineError", "StoreUnavailableError") and seconds < LONG_S / 3
    eventually(lambda: not ray.get(engine.acquire.remote(PATHS[:4], LONG_S), timeout=90)[1])


def test_a_deadline_holds_for_what_is_done_with_what_others_gave(two: Nodes) -> None:
    own = two.owned_by("b", PATHS)[4:8]
    ray.get(two.engine("b").use.remote(*own), timeout=60)
    engine, process = two.engine("a", Timing), process_of(two, "a")
    ray.get(engine.stop_once_fetched.remote(process), timeout=60)
    try:
        seconds, error, _ = ray.get(engine.acquire.remote(own, 1.0), timeout=120)
    finally:
        os.kill(process, signal.SIGCONT)
    assert error == DeadlineError.__name__ and seconds < 10.0
    eventually(lambda: not ray.get(two.shard("a").stats.remote(), timeout=20).leases)
