"""A tier behind the SSD that several stores share: a folder, and a real server that can die."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kvstore.config import StoreConfig
from kvstore.errors import StoreConfigError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Path as Chain
from tests.kvstore.redis_server import RedisServer, redis_server
from tests.kvstore.segments import (
    assert_balanced,
    assert_right_bytes,
    chain_of,
    compute,
    passage,
    small_config,
    store_path,
)

PATHS = [chain_of([7] * 8, passage(i, 64)) for i in range(12)]


class Node:
    """A store with a client, in a folder of its own."""

    def __init__(self, folder: Path, remote: str, **changes: float | str) -> None:
        folder.mkdir(exist_ok=True)
        self.config = replace(small_config(folder), remote=remote, **changes)  # type: ignore[arg-type]
        self.store = KVStore(self.config, "node")
        self.client = LocalStoreClient(self.store, self.config.dram_dir)

    def tiers(self, *paths: Chain) -> set[str]:
        """Where the hits of these paths are; all of them must be hits with the right bytes."""
        acquired = self.client.acquire(paths, 10)
        assert not acquired.tickets and not acquired.waiters
        assert_right_bytes(self.client, acquired)
        self.client.release(acquired.lease_id)
        return {hit.tier for hit in acquired.hits.values()}

    def close(self) -> None:
        self.client.close()
        assert_balanced(self.store)
        self.store.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["folder", "server"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return f"file://{tmp_path}/remote"
    server: RedisServer = request.getfixturevalue("server")
    return server.url(prefix=tmp_path.name)


def test_another_node_finds_what_one_computed(remote: str, tmp_path: Path) -> None:
    one, two = Node(tmp_path / "one", remote), Node(tmp_path / "two", remote, ssd_dir="")
    assert two.store.flush(5), "it has listed the remote tier, which is empty"
    store_path(one.client, *PATHS)
    assert one.store.flush(10) and one.store.stats().remote.num_segments == 13
    assert two.tiers(*PATHS) == {"remote"} and two.tiers(*PATHS) == {"dram"}
    stats = two.store.stats()
    assert stats.remote.hits == 13 and stats.misses == 0
    assert stats.remote.read_bytes == one.store.stats().remote.written_bytes
    one.close()
    two.close()


def test_what_the_remote_tier_gave_goes_to_the_ssd(remote: str, tmp_path: Path) -> None:
    one = Node(tmp_path / "one", remote, ssd_dir="")
    store_path(one.client, *PATHS[:3])
    one.close()
    two = Node(tmp_path / "two", remote)
    assert two.tiers(*PATHS[:3]) == {"remote"}
    assert two.store.flush(10)
    two.close()
    two = Node(tmp_path / "two", remote)
    assert two.tiers(*PATHS[:3]) == {"ssd"}
    two.close()


def test_a_removed_passage_is_gone_there_too(remote: str, tmp_path: Path) -> None:
    one = Node(tmp_path / "one", remote)
    store_path(one.client, *PATHS[:3])
    assert one.store.flush(10)
    one.client.remove_tags([PATHS[0][1].tag])
    one.close()
    two = Node(tmp_path / "two", remote)
    acquired = two.client.acquire(PATHS[:3], 5)
    assert list(acquired.tickets) == [PATHS[0][1].key]
    two.close()


def test_its_bound_is_kept(remote: str, tmp_path: Path) -> None:
    one = Node(tmp_path / "one", remote, remote_bytes=6 * 28672)
    for path in PATHS:
        store_path(one.client, path)
    assert one.store.flush(10)
    stats = one.store.stats().remote
    assert 0 < stats.used_bytes <= 6 * 28672 and stats.evictions > 0
    one.close()


def test_an_announced_path_is_read_ahead_from_there(remote: str, tmp_path: Path) -> None:
    one = Node(tmp_path / "one", remote)
    store_path(one.client, *PATHS[:3])
    one.close()
    two = Node(tmp_path / "two", remote)
    assert two.store.flush(10)
    two.client.announce("request", PATHS[:3], 60)
    give_up = time.monotonic() + 5
    while two.store.stats().dram.num_segments < 4 and time.monotonic() < give_up:
        time.sleep(0.01)
    assert two.tiers(*PATHS[:3]) == {"dram"} and two.store.stats().prefetch_used == 4
    two.close()


def test_a_dead_server_costs_no_answer(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        one = Node(tmp_path / "one", server.url(), remote_timeout_s=0.3)
        store_path(one.client, *PATHS[:3])
        assert one.store.flush(10)
        server.kill()
        began = time.monotonic()
        for path in PATHS:
            one.client.release(compute(one.client, path).lease_id)
        assert time.monotonic() - began < 5
        assert one.tiers(*PATHS) == {"dram"}
        two = Node(tmp_path / "two", server.url(), ssd_dir="", remote_timeout_s=0.3)
        acquired = two.client.acquire(PATHS[:1], 10)
        assert len(acquired.tickets) == 2
        two.client.close()
        two.store.close(1)
        one.client.close()
        one.store.close(1)


def test_a_server_that_hangs_costs_the_timeout(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        two = Node(tmp_path / "two", server.url(), ssd_dir="", remote_timeout_s=0.3)
        assert two.store.flush(5)
        with server.frozen():
            began = time.monotonic()
            acquired = two.client.acquire(PATHS, 30)
            assert 0.2 < time.monotonic() - began < 5 and len(acquired.tickets) == 13
        two.client.close()
        two.store.close(1)


def test_a_url_that_cannot_work_is_refused(tmp_path: Path) -> None:
    config = StoreConfig(dram_dir=str(tmp_path), dram_bytes=2**20, ssd_dir=str(tmp_path / "ssd"))
    with pytest.raises(StoreConfigError, match="store.remote is ftp://host, must begin with one"):
        KVStore(replace(config, remote="ftp://host"), "node")
    KVStore(config, "node").close()


def test_a_password_comes_from_a_file_and_from_nowhere_else(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "a/b:c@d") as server:
        secret = tmp_path / "secret"
        secret.write_text(":a/b:c@d\n")
        locked = Node(tmp_path / "locked", server.url(), remote_timeout_s=1.0)
        assert not locked.store.flush(0.5) and locked.store.stats().remote.write_failures == 1
        locked.client.close()
        locked.store.close(1)
        one = Node(tmp_path / "one", server.url(), remote_secret_file=str(secret))
        store_path(one.client, *PATHS[:2])
        assert one.store.flush(10) and one.store.stats().remote.num_segments == 3
        one.close()
    with pytest.raises(ValueError, match="store.remote holds a password") as caught:
        StoreConfig(remote="redis://user:hidden@host")
    assert "hidden" not in str(caught.value)
    with pytest.raises(StoreConfigError, match="store.remote_secret_file"):
        Node(tmp_path / "no", "redis://host", remote_secret_file=str(tmp_path / "absent"))
