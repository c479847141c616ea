"""What was computed behind a removed passage goes with it, where the passage is not stored too."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as FilePath

import pytest

from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import MAX_FOLLOWED, SegmentSpec
from tests.kvstore.segments import (
    TRUNK,
    assert_balanced,
    chain_of,
    compute,
    fill,
    passage,
    small_config,
    store_path,
)

HEAD, LOST, BEHIND, LAST = PATH = chain_of(TRUNK, passage(1), passage(2), passage(3))
OTHER = chain_of(TRUNK, passage(4), passage(2))
TIERS = ("ssd", "remote")


@contextmanager
def opened(folder: FilePath, tier: str) -> Iterator[tuple[KVStore, LocalStoreClient]]:
    config = small_config(folder)
    if tier == "remote":
        bucket = f"file://{folder}/bucket"
        config = small_config(folder, ssd_dir="", remote=bucket, remote_bytes=2**22)
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    assert store.flush(30)
    yield store, client
    assert_balanced(store)
    client.close()
    store.close(1)


def objects(folder: FilePath, *specs: SegmentSpec) -> list[FilePath]:
    return [file for spec in specs for file in folder.rglob(f"{spec.key}*")]


@pytest.fixture(params=TIERS)
def stored(request: pytest.FixtureRequest, tmp_path: FilePath) -> tuple[FilePath, str]:
    """Both chains are in the tier, but for the object of one passage, which was lost."""
    with opened(tmp_path, request.param) as (store, client):
        store_path(client, PATH, OTHER)
        assert store.flush(30)
    for file in objects(tmp_path, LOST):
        file.unlink()
    assert len(objects(tmp_path, *PATH, *OTHER)) == 6
    return tmp_path, request.param


def test_it_goes_from_its_tier_and_stays_away(stored: tuple[FilePath, str]) -> None:
    folder, _ = stored
    with opened(*stored) as (store, client):
        assert client.remove_tags([LOST.tag]) == 2
        assert not objects(folder, LOST, BEHIND, LAST) and len(objects(folder, *OTHER)) == 3
        store_path(client, PATH[:2])
        acquired = client.acquire([PATH], 10)
        assert acquired.tickets.keys() == {BEHIND.key, LAST.key}
        client.release(acquired.lease_id)
    with opened(*stored) as (store, client):
        assert not store.locate([BEHIND.key, LAST.key])
        assert len(client.acquire([OTHER], 10, claim=False).hits) == 3


def test_another_passage_that_stands_behind_it_takes_only_its_own(
    stored: tuple[FilePath, str],
) -> None:
    folder, _ = stored
    with opened(*stored) as (store, client):
        assert client.remove_tags([LAST.tag]) == 1
        assert store.locate([BEHIND.key]) and len(objects(folder, BEHIND, *OTHER)) == 4


def test_what_is_being_computed_behind_it_is_not_published(
    store: KVStore, client: LocalStoreClient
) -> None:
    acquired = client.acquire([PATH], 5)
    client.abort(acquired, [acquired.tickets[LOST.key]])
    client.remove_tags([LOST.tag])
    left = [acquired.tickets[spec.key] for spec in (HEAD, BEHIND, LAST)]
    fill(client, acquired, left)
    client.commit(acquired, left)
    assert store.locate([spec.key for spec in PATH]).keys() == {HEAD.key}
    client.release(acquired.lease_id)


def test_what_stands_too_deep_is_computed_and_not_kept(
    store: KVStore, client: LocalStoreClient
) -> None:
    path = chain_of(*([n] for n in range(MAX_FOLLOWED + 3)), layers=1)
    acquired = compute(client, path)
    kept = [spec.key for spec in path[: MAX_FOLLOWED + 1]]
    assert store.locate([spec.key for spec in path]).keys() == set(kept)
    deep = [acquired.tickets[spec.key] for spec in path[MAX_FOLLOWED + 1 :]]
    assert [ticket.extent for ticket in deep] == [None, None]
    client.release(acquired.lease_id)


def test_a_bucket_has_what_its_names_can_say_and_goes_on(tmp_path: FilePath) -> None:
    path = chain_of(*([n] for n in range(40)), layers=1)
    with opened(tmp_path, "remote") as (store, client):
        store_path(client, path)
        store_path(client, OTHER)
        assert store.flush(30)
        written = [spec for spec in path if objects(tmp_path, spec)]
        assert written == list(path[: len(written)]) and 11 <= len(written) < 40
        assert len(objects(tmp_path, *OTHER)) == 3 and not store.stats().remote.write_failures
