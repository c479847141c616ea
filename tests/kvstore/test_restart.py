"""A store that was killed starts again where its arena takes more than half of the memory."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kvstore.arena import Arena
from kvstore.config import StoreConfig
from kvstore.errors import StoreConfigError
from tests.kvstore.segments import (
    assert_right_bytes,
    chain_of,
    compute,
    passage,
    small_config,
    store_path,
)
from tests.kvstore.stress.rpc import RemoteClient
from tests.kvstore.tmpfs import small_tmpfs

PATH = chain_of(passage(1), passage(2))
TMPFS_BYTES = 8 * 2**20
ARENA_BYTES = 5 * 2**20
GONE = (OSError, EOFError)
"""What the test's transport raises where the store's process is gone."""


@pytest.fixture
def dram_dir(tmp_path: Path) -> Iterator[Path]:
    with small_tmpfs(tmp_path / "shm", TMPFS_BYTES) as folder:
        yield folder


@pytest.fixture
def config(tmp_path: Path, dram_dir: Path) -> StoreConfig:
    return replace(small_config(tmp_path), dram_dir=str(dram_dir), dram_bytes=ARENA_BYTES)


class StoreProcess:
    """A real store in a real process."""

    def __init__(self, config: StoreConfig, address: Path) -> None:
        address.unlink(missing_ok=True)
        server = [sys.executable, "-m", "tests.kvstore.stress.server"]
        self._child = subprocess.Popen(
            [*server, str(address), json.dumps(asdict(config))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def warns(self) -> str:
        """Its next warning, or where it ended none."""
        assert self._child.stderr is not None
        return self._child.stderr.readline()

    def serves(self) -> bool:
        """Whether it started; waits until it has, or has given up."""
        assert self._child.stdout is not None
        return self._child.stdout.readline() == "serves\n"

    def kill(self) -> None:
        self._child.kill()
        self._child.communicate()


@pytest.fixture
def store(config: StoreConfig, tmp_path: Path) -> Iterator[StoreProcess]:
    store = StoreProcess(config, tmp_path / "socket")
    assert store.serves()
    yield store
    store.kill()


@pytest.fixture
def client(store: StoreProcess, config: StoreConfig, tmp_path: Path) -> Iterator[RemoteClient]:
    client = RemoteClient(str(tmp_path / "socket"), config.dram_dir)
    store_path(client, PATH)
    yield client
    with suppress(*GONE):
        client.close()


@pytest.fixture
def restarted(
    client: RemoteClient, config: StoreConfig, tmp_path: Path
) -> Iterator[Callable[[], StoreProcess]]:
    """Begins to start the store again, for a client of the former one."""
    begun: list[StoreProcess] = []

    def restart() -> StoreProcess:
        begun.append(StoreProcess(config, tmp_path / "second"))
        return begun[-1]

    yield restart
    for store in begun:
        store.kill()


def test_a_client_without_a_lease_gives_the_memory_back_without_a_call(
    store: StoreProcess,
    client: RemoteClient,
    restarted: Callable[[], StoreProcess],
    config: StoreConfig,
    tmp_path: Path,
) -> None:
    store.kill()
    assert restarted().serves()
    second = RemoteClient(str(tmp_path / "second"), config.dram_dir)
    acquired = compute(second, PATH)
    assert_right_bytes(second, acquired)
    second.close()


def test_a_reader_keeps_what_it_reads_and_the_store_waits_for_it(
    store: StoreProcess, client: RemoteClient, restarted: Callable[[], StoreProcess]
) -> None:
    reading = client.acquire([PATH], 5)
    store.kill()
    again = restarted()
    assert f"process {os.getpid()} maps" in again.warns()
    assert_right_bytes(client, reading)
    with suppress(*GONE):
        client.release(reading.lease_id)
    assert again.serves()


def test_memory_that_is_not_given_back_is_named_with_who_keeps_it(
    store: StoreProcess, client: RemoteClient, config: StoreConfig
) -> None:
    reading = client.acquire([PATH], 5)
    store.kill()
    with pytest.raises(StoreConfigError) as caught:
        Arena(config.dram_dir, "node", ARENA_BYTES, wait_s=0.2)
    for part in (f"process {os.getpid()}", "maps", "store.dram_bytes is 5242880"):
        assert part in str(caught.value)
    assert_right_bytes(client, reading)
    assert not list(Path(config.dram_dir).glob("hyperrag-store-*"))
    with suppress(*GONE):
        client.release(reading.lease_id)
    Arena(config.dram_dir, "node", ARENA_BYTES).close()
