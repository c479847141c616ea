"""Every background thread of a store outlives what is raised in any of its steps: whoever waits
goes on, and the books balance."""

import random
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.tiers.folder import Folder
from tests.kvstore.acting import Actor
from tests.kvstore.segments import (
    assert_balanced,
    assert_right_bytes,
    chain_of,
    compute,
    passage,
    small_config,
    store_path,
)
from tests.kvstore.waiting import eventually

KINDS = (MemoryError, struct.error, KeyError, AssertionError)
_ACTS = 400

Place = tuple[Callable[[KVStore], object], str]


def _medium(store: KVStore) -> Folder:
    medium = store._books.levels[0].tier._medium
    assert isinstance(medium, Folder)
    return medium


PLACES: dict[str, Place] = {
    "opening a file": (lambda s: _medium(s)._files, "open"),
    "reading a file": (lambda s: _medium(s)._files, "read"),
    "writing a file": (lambda s: _medium(s)._files, "write"),
    "syncing a file": (lambda s: _medium(s)._files, "sync"),
    "renaming a file": (lambda s: _medium(s)._files, "rename"),
    "deleting a file": (lambda s: _medium(s)._files, "unlink"),
    "opening an object": (lambda s: s._books.levels[0].tier, "open"),
    "putting an object": (lambda s: s._books.levels[0].tier, "put"),
    "discarding an object": (lambda s: s._books.levels[0].tier, "discard"),
    "evicting from the SSD": (lambda s: s._books.levels[0].shelf, "victims"),
    "shelving an object": (lambda s: s._books.levels[0].shelf, "add"),
    "completing a slot": (lambda s: s._books.dram, "complete"),
    "publishing a slot": (lambda s: s._books.dram, "publish"),
    "shelving a slot": (lambda s: s._books.dram_shelf, "add"),
    "publishing a read": (lambda s: s._books, "publish"),
    "offering a slot": (lambda s: s._books, "offer"),
    "making room ahead": (lambda s: s._books, "reserve"),
    "reading ahead": (lambda s: s._loads, "read_ahead"),
    "queueing a read": (lambda s: s._loads._readings["ssd"], "put"),
    "listing what to scrub": (lambda s: s._books.dram, "slots"),
    "viewing an extent": (lambda s: s._books.dram, "view"),
    "looking for holders": (lambda s: s._books.holders, "ended"),
    "expiring claims": (lambda s: s._books.claims, "flying"),
    "expiring announcements": (lambda s: s._books.window, "expire_one"),
    "giving up reads": (lambda s: s._loads, "give_up_hanging"),
}


class Trip:
    """Raises one failure of every kind, each before the real call, in the store's own threads."""

    def __init__(self, owner: object, name: str) -> None:
        self.left: Iterator[type[Exception]] = iter(KINDS)
        self.num = 0
        self._real: Callable[..., Any] = getattr(owner, name)
        self._lock = threading.Lock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if threading.current_thread().name.startswith("kvstore-"):
            with self._lock:
                kind = next(self.left, None)
                self.num += kind is not None
            if kind is not None:
                raise kind("injected")
        return self._real(*args, **kwargs)


def failures(store: KVStore) -> int:
    return sum(thread.failures for thread in store.stats().threads.values())


@pytest.mark.parametrize("place", PLACES)
def test_threads_outlive_a_failure_at_any_step(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(
        tmp_path,
        dram_bytes=3 * 2**16,
        ssd_bytes=2**18,
        reap_interval_s=0.01,
        scrub_bytes_per_s=2**30,
    )
    monkeypatch.setattr("kvstore.scrub._IDLE_S", 0.01)
    store = KVStore(config, "node")
    assert store.flush(10)
    client = LocalStoreClient(store, config.dram_dir)
    owner, name = PLACES[place][0](store), PLACES[place][1]
    trip = Trip(owner, name)
    monkeypatch.setattr(owner, name, trip)
    actor = Actor(client, random.Random(1), deadlines_s=(5.0,), streamed_share=0.0)
    for _ in range(_ACTS):
        actor.act()
        if trip.num == len(KINDS):
            break
    else:
        assert eventually(lambda: trip.num == len(KINDS), 10), f"tripped {trip.num} times"
    while actor._held:
        actor._give_back(*actor._held.popleft())
    assert eventually(lambda: failures(store) == len(KINDS), 10)
    assert store.threads.gone() == []
    assert store.flush(30)
    path = chain_of([1] * 8, passage(99))
    store_path(client, path)
    acquired = compute(client, path)
    assert not acquired.tickets
    assert_right_bytes(client, acquired)
    client.release(acquired.lease_id)
    assert_balanced(store)
    client.close()
    store.close()


def test_who_waits_for_a_read_that_fails_in_an_unforeseen_way_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, not after `read_timeout_s`; and the tier does not count as slow."""
    config = small_config(tmp_path, read_timeout_s=60)
    path = chain_of([1] * 8, passage(1))
    filled = KVStore(config, "node")
    client = LocalStoreClient(filled, config.dram_dir)
    store_path(client, path)
    client.close()
    filled.close()
    store = KVStore(config, "node")
    assert store.flush(10)
    monkeypatch.setattr(_medium(store)._files, "read", Trip(_medium(store)._files, "read"))
    client = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire([path], 600)
    assert set(acquired.tickets) == {path[0].key, path[1].key}
    client.release(acquired.lease_id)
    assert not store._books.levels[0].slow
    assert eventually(lambda: failures(store) > 0, 10)
    monkeypatch.undo()
    assert_balanced(store)
    client.close()
    store.close()
