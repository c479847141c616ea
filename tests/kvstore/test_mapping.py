import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kvstore.config import StoreConfig
from kvstore.errors import StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.kvstore.segments import (
    assert_balanced,
    assert_right_bytes,
    chain_of,
    compute,
    passage,
    payload,
    store_path,
)
from tests.kvstore.waiting import eventually

PATH = chain_of(passage(1), passage(2))


def restarted(client: LocalStoreClient, store: KVStore, config: StoreConfig) -> KVStore:
    store.close()
    client._store = KVStore(config, "node")
    return client._store


def test_an_old_arena_stays_mapped_while_a_lease_from_it_is_open(config: StoreConfig) -> None:
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    client.release(compute(client, PATH).lease_id)
    old = client.acquire([PATH], 5)
    store = restarted(client, store, config)
    new = client.acquire([PATH], 5)
    assert new.arena.incarnation != old.arena.incarnation
    assert_right_bytes(client, old)
    assert_right_bytes(client, new)
    view = client.view(old, old.hits[PATH[0].key].extent)
    client.release(old.lease_id)
    with pytest.raises(StoreUnavailableError, match="arena is gone"):
        client.view(old, old.hits[PATH[0].key].extent)
    assert bytes(view) == payload(PATH[0])
    client.close()
    store.close()


def test_tickets_of_another_incarnation_are_not_open(config: StoreConfig) -> None:
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    old = client.acquire([PATH], 5)
    store = restarted(client, store, config)
    new = client.acquire([PATH], 5)
    assert len(new.tickets) == 2
    with pytest.raises(StoreUnavailableError, match="is not open"):
        client.commit(old, list(old.tickets.values()))
    client.abort(old, list(old.tickets.values()))
    client.release(old.lease_id)
    assert store.stats().open_tickets == 2, "nothing of the new incarnation was touched"
    client.close()
    store.close()


MADE_OF_A_VIEW: list[Callable[[memoryview], Any]] = [
    lambda view: view,
    lambda view: view[16:],
    lambda view: view.cast("f"),
    lambda view: np.frombuffer(view, np.uint8)[8:],
]


@pytest.mark.parametrize("make", MADE_OF_A_VIEW)
def test_a_client_that_closes_keeps_what_is_being_written(
    store: KVStore, config: StoreConfig, make: Callable[[memoryview], Any]
) -> None:
    client = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire([PATH], 5)
    written = make(client.writable(acquired, acquired.tickets[PATH[0].key]))
    client.close()
    assert store.stats().open_tickets == 2, "the writer has its extent"
    written[:4] = written[:4]
    with pytest.raises(StoreUnavailableError, match="is closed"):
        client.acquire([PATH], 5)
    del written
    assert eventually(lambda: store.stats().leases == 0, 30)
    assert store.stats().open_tickets == 0
    assert_balanced(store)


def test_what_a_closing_client_writes_lands_in_nobodys_segment(
    store: KVStore, client: LocalStoreClient, config: StoreConfig
) -> None:
    """Others fill all the room there is while its thread goes on writing."""
    closing = LocalStoreClient(store, config.dram_dir)
    acquired = closing.acquire([PATH], 5)
    views = [closing.writable(acquired, ticket) for ticket in acquired.tickets.values()]
    has_closed, may_end = threading.Event(), threading.Event()

    def write(into: list[memoryview]) -> None:
        while not may_end.is_set():
            for view in into:
                view[:] = b"\xff" * len(view)
            has_closed.wait(0.001)
        into.clear()

    writer = threading.Thread(target=write, args=(views,))
    writer.start()
    try:
        closing.close()
        has_closed.set()
        capacity = store.stats().dram.capacity_bytes
        others = [chain_of(passage(n)) for n in range(100, 100 + capacity // 4096)]
        for path in others:
            store_path(client, path)
        found = client.acquire(others, 5, claim=False)
        assert found.hits
        assert_right_bytes(client, found)
    finally:
        may_end.set()
        writer.join(30)
    assert eventually(lambda: store.stats().open_tickets == 0, 30)


def test_what_was_committed_keeps_no_client_open(store: KVStore, config: StoreConfig) -> None:
    client = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire([PATH[:1]], 5)
    (ticket,) = acquired.tickets.values()
    kept = client.writable(acquired, ticket)
    kept[:] = payload(ticket.spec)
    client.commit(acquired, [ticket])
    client.close()
    assert store.stats().leases == 0 and bytes(kept) == payload(ticket.spec)
