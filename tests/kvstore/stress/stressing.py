"""One run: a store in this process, client processes around it, and somebody who kills them."""

import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from kvstore.config import StoreConfig
from kvstore.store import KVStore
from kvstore.types import StoreStats
from tests.kvstore.segments import small_config
from tests.kvstore.stress.bounds import Bounds
from tests.kvstore.stress.rpc import StoreServer
from tests.tracked import ROOT

SLOW_READS = ("read delay 0.002",)
"""Or segments as small as ours would be whole before anybody could read along."""
SAMPLE_S = 0.02
LIFE_S = 8.0
"""Of a client process, on average, until it is killed."""
CALM_S = 10.0
"""In which everything has come back once the last client ended."""


@dataclass(frozen=True, slots=True)
class StressResult:
    """`violations` of bounds, wrong bytes and books that do not balance: one line each."""

    requests: int
    kills: int
    samples: int
    stats: StoreStats
    violations: tuple[str, ...]

    def __str__(self) -> str:
        stats = self.stats
        return (
            f"stress: requests={self.requests} kills={self.kills} samples={self.samples}"
            f" commits={stats.commits} dram_hits={stats.dram.hits} ssd_hits={stats.ssd.hits}"
            f" dram_evictions={stats.dram.evictions} ssd_evictions={stats.ssd.evictions}"
            f" violations={len(self.violations)}"
        )


def run(seconds: float, processes: int, seed: int) -> StressResult:
    """Random requests from this many processes at a time, on a store that is far too small."""
    with TemporaryDirectory() as folder, TemporaryDirectory(dir="/dev/shm") as memory:
        config = small_config(
            Path(folder), dram_dir=memory, dram_bytes=2**18, ssd_bytes=2**18, write_queue=8,
            faults=SLOW_READS,
        )  # fmt: skip
        store = KVStore(config, "node")
        server = StoreServer(store, str(Path(folder) / "socket"))
        clients = Clients([str(Path(folder) / "socket"), memory], processes, seed)
        bounds = Bounds(store, config)
        _watch(bounds, clients, store, time.monotonic() + seconds)
        clients.stop()
        problems = bounds.violations + clients.failures + _unsettled(store)
        stats = store.stats()
        server.close()
        store.close()
        problems += _left_behind(config)
    requests = server.calls["acquire"]
    return StressResult(requests, clients.kills, bounds.samples, stats, tuple(problems))


class Clients:
    """Always as many processes as there should be, each killed after a while."""

    def __init__(self, arguments: list[str], count: int, seed: int) -> None:
        self._arguments = arguments
        self._rng = random.Random(seed)
        self._ends: dict[subprocess.Popen[str], float] = {}
        self.kills = 0
        self.failures: list[str] = []
        for _ in range(count):
            self._start()

    def pids(self) -> list[int]:
        return [process.pid for process in self._ends]

    def tend(self) -> None:
        """Kill whose time has come; replace whoever ended."""
        for process, end in list(self._ends.items()):
            if process.poll() is None and time.monotonic() >= end:
                process.kill()
                process.wait()
                self.kills += 1
            if process.poll() is not None:
                self._bury(process, (-signal.SIGKILL,))
                self._start()

    def stop(self) -> None:
        for process in self._ends:
            process.terminate()
        for process in list(self._ends):
            process.wait(60)
            self._bury(process, (0, -signal.SIGTERM))  # the latter: it had only just started

    def _start(self) -> None:
        command = [sys.executable, "-m", "tests.kvstore.stress.worker", *self._arguments]
        command.append(str(self._rng.randrange(2**32)))
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        self._ends[process] = time.monotonic() + self._rng.uniform(0, 2 * LIFE_S)

    def _bury(self, process: subprocess.Popen[str], expected: tuple[int, ...]) -> None:
        del self._ends[process]
        assert process.stderr is not None
        with process.stderr as errors:
            said = errors.read()
        if process.returncode not in expected:
            self.failures.append(f"a client ended with {process.returncode}: {said}")


def _watch(bounds: Bounds, clients: Clients, store: KVStore, until: float) -> None:
    """Bounds at every sample; books, checksums and memory about twice a second."""
    while time.monotonic() < until:
        bounds.sample()
        clients.tend()
        if bounds.samples % 25 == 0:
            bounds.sample_memory(clients.pids())
            bounds.violations += store.check().problems
        time.sleep(SAMPLE_S)


def _unsettled(store: KVStore) -> list[str]:
    """What is not as it should be once nobody uses the store any more."""
    give_up = time.monotonic() + CALM_S
    while (store.stats().leases or store.stats().open_tickets) and time.monotonic() < give_up:
        time.sleep(SAMPLE_S)
    stats, problems = store.stats(), []
    if stats.leases or stats.open_tickets:
        problems.append(f"{stats.leases} leases, {stats.open_tickets} tickets of nobody are left")
    if stats.corrupt:
        problems.append(f"{stats.corrupt} segments were found damaged")
    if not store.flush(CALM_S):
        problems.append(f"{stats.ssd.write_queue} segments are still not written")
    return problems + list(store.check().problems)


def _left_behind(config: StoreConfig) -> list[str]:
    """Files in the memory's folder after the store was closed."""
    return [f"{path} is left" for path in Path(config.dram_dir).iterdir()]
