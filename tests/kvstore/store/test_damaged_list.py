"""A list of deletions that was damaged: what was removed stays out of sight, on any tier."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvstore.deletions import ASIDE, NAME
from kvstore.errors import RemovalError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.kvstore.segments import (
    TRUNK,
    assert_balanced,
    assert_right_bytes,
    chain_of,
    passage,
    small_config,
    store_path,
)
from tests.kvstore.waiting import eventually

GONE, KEPT, NEW = (chain_of(TRUNK, passage(number)) for number in (1, 2, 3))
TAG = GONE[1].tag
TOO_LONG_S = 30.0


@contextmanager
def opened(folder: Path) -> Iterator[tuple[KVStore, LocalStoreClient]]:
    remote = f"file://{folder}/bucket"
    config = small_config(folder, remote=remote, remove_timeout_s=1.0)
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    yield store, client
    client.close()
    store.close(2)


@contextmanager
def away(folder: Path) -> Iterator[None]:
    """The bucket does not answer."""
    (folder / "bucket").rename(folder / "elsewhere")
    (folder / "bucket").touch()
    yield
    (folder / "bucket").unlink()
    (folder / "elsewhere").rename(folder / "bucket")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bucket still has what was removed, as the list says."""
    with opened(tmp_path) as (store, client):
        store_path(client, GONE, KEPT)
        assert store.flush(10)
        with away(tmp_path):
            assert client.remove_tags([TAG]) == 1
            assert (tmp_path / "ssd" / NAME).stat().st_size > 16
            client.close()
            store.close(0.5)
    return tmp_path


def found(client: LocalStoreClient) -> list[str]:
    acquired = client.acquire([GONE, KEPT], 10, claim=False)
    assert_right_bytes(client, acquired)
    client.release(acquired.lease_id)
    return [str(hit.tier) for hit in acquired.hits.values()]


def objects(folder: Path, number: int) -> int:
    key = (GONE if number else KEPT)[1].key
    return len(list((folder / "bucket").rglob(f"{key}-*")))


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


LOSSY: dict[str, Callable[[bytes], bytes]] = {
    "flip": flip,
    "empty": lambda data: b"",
    "header": lambda data: bytes(16) + data[16:],
}


@pytest.mark.parametrize("damage", LOSSY)
def test_a_shared_tier_is_left_alone_until_an_operator_says_so(
    folder: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    listed, aside = folder / "ssd" / NAME, folder / "ssd" / ASIDE
    damaged = LOSSY[damage](listed.read_bytes())
    listed.write_bytes(damaged)
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.ERROR), opened(folder) as (store, client):
            assert any("remote tier is left alone" in line for line in caplog.messages)
            assert any(str(aside) in line for line in caplog.messages), "it says what to do"
            assert store.flush(10) and "remote" not in found(client)
            assert eventually(lambda: aside.exists(), TOO_LONG_S)
            assert aside.read_bytes() == damaged
            store_path(client, NEW)
            assert store.flush(10) and store.stats().remote.written_bytes == 0
            assert [line[:6] for line in store.check().unchecked] == ["remote"]
            assert_balanced(store)
    assert objects(folder, 0), "what others may have written is not deleted"
    with opened(folder) as (store, client):
        client.remove_tags([TAG])
        assert eventually(lambda: not objects(folder, 1), TOO_LONG_S), "it is removed once more"
    aside.unlink()
    with opened(folder) as (store, client):
        assert store.flush(10) and sorted(found(client)) == ["remote", "ssd"]


HARMLESS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "junk": lambda data: data + b"junkjunkjunk" * 3,
    "zeros": lambda data: data + bytes(100),
}


@pytest.mark.parametrize("damage", HARMLESS)
def test_a_write_that_was_cut_short_costs_nothing(folder: Path, damage: str) -> None:
    listed = folder / "ssd" / NAME
    listed.write_bytes(HARMLESS[damage](listed.read_bytes()))
    with opened(folder) as (store, client):
        assert len(found(client)) == 2, "the trunk and what was kept"
        assert store.flush(10) and len(found(client)) == 2
        assert eventually(lambda: not store.stats().remote.tombstones, TOO_LONG_S)
        assert not objects(folder, 1) and objects(folder, 0)
        assert not (folder / "ssd" / ASIDE).exists()


def test_a_folder_in_its_place_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path) as (store, client):
        store_path(client, KEPT)
        assert store.flush(10)
    (tmp_path / "ssd" / NAME).mkdir()
    with caplog.at_level(logging.ERROR), opened(tmp_path) as (store, client):
        text = f"{tmp_path}/ssd/{NAME} cannot be read"
        assert any(text in line and "Move away" in line for line in caplog.messages)
        with away(tmp_path), pytest.raises(RemovalError, match=f"{NAME} cannot be read"):
            client.remove_tags([TAG])
        (tmp_path / "ssd" / NAME).rmdir()
        assert eventually(lambda: not store.stats().ssd.tombstones, TOO_LONG_S), "it goes on"
        client.remove_tags([TAG])
