"""A deletion is a promise: what was removed stays removed, whatever the disk does."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvstore import deletions
from kvstore.errors import RemovalError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.tiers.faults import Fault
from kvstore.tiers.folder import Folder
from kvstore.types import Path as Chain
from tests.kvstore.media import disk_of
from tests.kvstore.segments import (
    TRUNK,
    assert_balanced,
    assert_right_bytes,
    chain_of,
    compute,
    passage,
    small_config,
    store_path,
)
from tests.kvstore.waiting import eventually

GONE, KEPT = chain_of(TRUNK, passage(1), passage(2)), chain_of(TRUNK, passage(3))
TAG = GONE[1].tag
TOO_LONG_S = 30.0


@contextmanager
def opened(
    folder: Path, *faults: str, **changes: float | str
) -> Iterator[tuple[KVStore, LocalStoreClient]]:
    config = small_config(folder, faults=faults, **changes)
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    yield store, client
    client.close()
    store.close(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With both chains on the SSD."""
    with opened(tmp_path) as (store, client):
        store_path(client, GONE, KEPT)
        assert store.flush(10)
    return tmp_path


def found(client: LocalStoreClient, path: Chain) -> int:
    """How many of its segments the store has."""
    acquired = client.acquire([path], 10, claim=False)
    assert_right_bytes(client, acquired)
    client.release(acquired.lease_id)
    return len(acquired.hits)


def is_settled(store: KVStore) -> bool:
    return store.stats().ssd.tombstones == 0


def names(folder: Path, path: Chain) -> list[str]:
    return [file.name for spec in path for file in (folder / "ssd").glob(f"?/?/{spec.key}.*")]


def test_it_is_off_the_disk_when_the_call_returns(folder: Path) -> None:
    with opened(folder) as (store, client):
        assert store.flush(10)
        assert client.remove_tags([TAG]) == 2
        assert names(folder, GONE[1:]) == [] and is_settled(store)
        assert not (folder / "ssd" / deletions.NAME).exists(), "nothing is left to be noted"
        assert_balanced(store)


@pytest.mark.parametrize("fault", ["unlink eio", "unlink erofs"])
def test_a_disk_that_refuses_does_not_bring_it_back(folder: Path, fault: str) -> None:
    with opened(folder, fault, remove_timeout_s=1) as (store, client):
        assert store.flush(10)
        assert client.remove_tags([TAG]) == 2
        assert len(names(folder, GONE[1:])) == 2 and store.stats().ssd.tombstones == 1
        assert found(client, GONE) == 1
        assert_balanced(store)
    with opened(folder, fault, remove_timeout_s=1) as (store, client):
        assert found(client, GONE) == 1, "before it was listed"
        assert store.flush(10)
        assert found(client, GONE) == 1 and found(client, KEPT) == 2
        assert store.check().ok and store.stats().ssd.tombstones == 1
    with opened(folder) as (store, client):
        assert found(client, GONE) == 1
        assert store.flush(10)
        assert eventually(lambda: is_settled(store), TOO_LONG_S)
        assert names(folder, GONE[1:]) == [] and found(client, GONE) == 1
        assert_balanced(store)


def test_it_is_deleted_when_the_disk_works_again(folder: Path) -> None:
    with opened(folder, "unlink eio", remove_timeout_s=1) as (store, client):
        assert store.flush(10)
        client.remove_tags([TAG])
        disk_of(store).heal()
        assert eventually(lambda: is_settled(store), TOO_LONG_S)
        assert names(folder, GONE[1:]) == []
        assert_balanced(store)


def test_a_passage_that_comes_again_is_stored_again(folder: Path) -> None:
    with opened(folder, "unlink eio", remove_timeout_s=1) as (store, client):
        assert store.flush(10)
        client.remove_tags([TAG])
        store_path(client, GONE)
        assert found(client, GONE) == 3, "in memory"
        assert store.flush(10) and len(names(folder, GONE[1:])) == 2, "the removed ones"
        disk_of(store).heal()
        assert eventually(lambda: is_settled(store), TOO_LONG_S)
        assert names(folder, GONE[1:]) == []
        assert found(client, GONE) == 3  # a use, and the disk may have them again
        assert store.flush(10)
        assert_balanced(store)
    with opened(folder) as (store, client):
        assert found(client, GONE) == 3
        assert_balanced(store)


def test_a_folder_that_cannot_be_synced_is_no_deletion(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut would bring the names back."""
    with opened(folder, remove_timeout_s=0.4) as (store, client):
        assert store.flush(10)
        calls = []

        def fail(path: Path) -> None:
            calls.append(path)
            raise OSError(5, "no")

        medium = store._books.levels[0].tier._medium
        assert isinstance(medium, Folder)
        monkeypatch.setattr(medium._files, "sync_folder", fail)
        with pytest.raises(RemovalError, match="ssd"):
            client.remove_tags([TAG])
        assert calls and store.stats().ssd.tombstones == 1
        assert found(client, GONE) == 1


def test_only_folders_that_lost_a_file_are_synced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(folder) as (store, client):
        assert store.flush(10)
        synced: list[Path] = []
        medium = store._books.levels[0].tier._medium
        assert isinstance(medium, Folder)
        monkeypatch.setattr(medium._files, "sync_folder", synced.append)
        client.remove_tags([TAG])
        digests = [spec.key.digest.hex() for spec in GONE[1:]]
        touched = {f"{digest[0]}/{digest[1]}" for digest in digests}
        assert {str(path.relative_to(folder / "ssd")) for path in synced} == touched
        assert len(synced) == len(touched)


@pytest.mark.parametrize("fault", ["unlink hang", "sync hang"])
def test_a_disk_that_hangs_holds_nobody_up(folder: Path, fault: str) -> None:
    timeout_s = 0.4
    with opened(folder, "read delay 0", remove_timeout_s=timeout_s) as (store, client):
        assert store.flush(10)
        disk_of(store)._faults = (Fault.parse(fault),)
        began = time.monotonic()
        try:
            client.remove_tags([TAG])
        except RemovalError:
            assert "sync" in fault, "the note could be written"
        else:
            assert "unlink" in fault
        assert time.monotonic() - began < TOO_LONG_S
        assert found(client, GONE) <= 1
        disk_of(store).heal()
        assert eventually(lambda: is_settled(store), TOO_LONG_S)
        assert store.flush(10) and names(folder, GONE[1:]) == []
        assert_balanced(store)


def test_an_error_is_raised_where_it_can_be_noted_nowhere(folder: Path) -> None:
    with opened(folder, "unlink eio", "create eio", remove_timeout_s=0.4) as (store, client):
        assert store.flush(10)
        with pytest.raises(RemovalError, match=r"ssd.*Input/output error"):
            client.remove_tags([TAG])
        assert found(client, GONE) == 1, "out of sight all the same"
        disk_of(store).heal()
        assert eventually(lambda: is_settled(store), TOO_LONG_S)
        assert client.remove_tags([TAG]) == 0
        assert_balanced(store)
    assert names(folder, GONE[1:]) == []


def test_what_follows_is_gone_though_its_parents_file_is(folder: Path) -> None:
    """The parent was deleted, and the disk failed at the child."""
    with opened(folder, "unlink eio", remove_timeout_s=0.4) as (store, client):
        assert store.flush(10)
        client.remove_tags([TAG])
    (parent,) = (folder / "ssd").glob(f"?/?/{GONE[1].key}.*")
    parent.unlink()
    with opened(folder, "unlink eio", remove_timeout_s=0.4) as (store, client):
        acquired = compute(client, GONE[:2])  # the passage comes again, what followed does not
        assert found(client, GONE) == 2
        client.release(acquired.lease_id)
        assert store.flush(10)
        assert found(client, GONE) == 2
        assert store.check().ok


def test_the_disk_is_not_asked_for_what_was_removed_while_it_is_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, list_ = threading.Event(), Folder.list
    monkeypatch.setattr(Folder, "list", lambda own: listing.wait(TOO_LONG_S) and list_(own))
    with opened(folder) as (store, client):
        assert client.remove_tags([TAG]) == 0, "nobody knows yet what is there"
        assert (folder / "ssd" / deletions.NAME).stat().st_size > 16
        assert found(client, GONE) == 1 and found(client, KEPT) == 2
        listing.set()
        assert eventually(lambda: is_settled(store), TOO_LONG_S)
        assert names(folder, GONE[1:]) == []
        assert_balanced(store)


def test_a_damaged_list_empties_the_tier(folder: Path) -> None:
    """It may have named anything; what was computed can be computed again."""
    with opened(folder, "unlink eio", remove_timeout_s=0.4) as (store, client):
        assert store.flush(10)
        client.remove_tags([TAG])
    listed = folder / "ssd" / deletions.NAME
    data = bytearray(listed.read_bytes())
    data[40] ^= 1
    listed.write_bytes(data)
    with opened(folder) as (store, client):
        assert found(client, GONE) == 0 and found(client, KEPT) == 0
        assert eventually(lambda: is_settled(store), TOO_LONG_S)
        assert names(folder, (*GONE, *KEPT)) == []
        store_path(client, KEPT)
        assert store.flush(10)
        assert_balanced(store)
    with opened(folder) as (_, client):
        assert found(client, KEPT) == 2


def test_what_is_being_written_goes_as_well(tmp_path: Path) -> None:
    with opened(tmp_path, "rename delay 0.3") as (store, client):
        assert store.flush(10)
        acquired = compute(client, GONE)
        assert eventually(lambda: store._books.levels[0].writing is not None, TOO_LONG_S)
        assert client.remove_tags([spec.tag for spec in GONE]) == 3
        assert names(tmp_path, GONE) == [] and is_settled(store)
        client.release(acquired.lease_id)
        assert store.flush(10) and names(tmp_path, GONE) == []
        assert_balanced(store)


def test_a_file_that_an_eviction_left_goes_as_well(tmp_path: Path) -> None:
    """The disk refused to delete it: it is on no shelf, and a restart would find it."""
    paths = [chain_of(passage(n, 64)) for n in range(8)]
    with opened(tmp_path, "unlink eio", ssd_bytes=3 * 28672, remove_timeout_s=0.4) as (store, one):
        assert store.flush(10)
        for path in paths:
            store_path(one, path)
            assert store.flush(10)
        left = [path for path in paths if names(tmp_path, path) and found_on_disk(store, path) == 0]
        assert left, "evicted, and there"
        one.remove_tags([path[0].tag for path in paths])
    with opened(tmp_path) as (store, one):
        assert sum(found(one, path) for path in paths) == 0
        assert eventually(lambda: is_settled(store), TOO_LONG_S)
        assert all(names(tmp_path, path) == [] for path in paths)
        assert_balanced(store)


def found_on_disk(store: KVStore, path: Chain) -> int:
    return sum(spec.key in store._books.levels[0].shelf for spec in path)
