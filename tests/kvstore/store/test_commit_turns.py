"""A commit lets others have the lock between two of its tickets: it takes all of them or none."""

from collections.abc import Callable
from pathlib import Path as FilePath

import pytest

from kvstore.errors import StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired, TicketId
from tests.kvstore.between import Between
from tests.kvstore.segments import (
    TRUNK,
    assert_balanced,
    assert_right_bytes,
    chain_of,
    crcs_of,
    fill,
    passage,
    small_config,
)

PATH = chain_of(TRUNK, passage(1), passage(2), passage(3))
KEYS = [spec.key for spec in PATH]
CRCS = [crcs_of(spec) for spec in PATH]


def ids_of(acquired: Acquired) -> list[TicketId]:
    return [acquired.tickets[key].ticket_id for key in KEYS]


def end_last(store: KVStore, client: LocalStoreClient, acquired: Acquired) -> None:
    store.abort(ids_of(acquired)[-1:], client.holder_id)


ENDS: dict[str, Callable[[KVStore, LocalStoreClient, Acquired], object]] = {
    "its last ticket": end_last,
    "its lease": lambda store, client, acquired: client.release(acquired.lease_id),
    "its process": lambda store, client, acquired: store.unregister(client.holder_id),
}


@pytest.mark.parametrize("what", ENDS)
def test_what_ends_between_two_tickets(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    config = small_config(tmp_path, ssd_dir="")
    store, between = KVStore(config, "node"), Between(monkeypatch)
    client = LocalStoreClient(store, config.dram_dir)
    num_turns, num_refused, was_done = 0, 0, True
    while was_done:
        acquired = client.acquire([PATH], 5)
        fill(client, acquired, list(acquired.tickets.values()))
        between.arm(num_turns, lambda: ENDS[what](store, client, acquired))  # noqa: B023
        try:
            store.commit(ids_of(acquired), CRCS, client.holder_id)
            assert store.locate(KEYS).keys() == set(KEYS)
        except StoreUnavailableError:
            num_refused += 1
            assert store.locate(KEYS) == {} and store.stats().commits == 0
            store.wait(KEYS[-1:], 0.0)
        was_done = between.disarm()
        assert_balanced(store)
        client.release(acquired.lease_id)
        assert store.stats().open_tickets == 0 and store.stats().leases == 0
        if num_refused == num_turns + 1:
            assert store.stats().dram.used_bytes == 0
        store.remove_tags([spec.tag for spec in PATH])
        store._books.counters.commits = 0
        num_turns += 1
    assert num_refused == len(PATH) - 1 and num_turns > num_refused
    client.close()
    store.close()


def written(folder: FilePath) -> tuple[KVStore, LocalStoreClient, Acquired]:
    """A store without an SSD, and a client that has written the path and committed none of it."""
    config = small_config(folder, ssd_dir="")
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire([PATH], 5)
    fill(client, acquired, list(acquired.tickets.values()))
    return store, client, acquired


def test_what_was_taken_of_a_commit_that_is_refused_is_open_again(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    between, (store, client, acquired) = Between(monkeypatch), written(tmp_path)
    tickets = list(acquired.tickets.values())
    between.arm(1, lambda: end_last(store, client, acquired))
    with pytest.raises(StoreUnavailableError, match="is not open"):
        store.commit(ids_of(acquired), CRCS, client.holder_id)
    assert between.disarm() and store.stats().open_tickets == len(PATH) - 1
    client.commit(acquired, tickets[:-1])
    assert_right_bytes(client, client.acquire([PATH[:-1]], 5))
    client.close()
    assert_balanced(store)
    store.close()


def test_results_that_change_during_a_commit(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids and checksums are those of the call's entry."""
    between, (store, client, acquired) = Between(monkeypatch), written(tmp_path)
    ids, crcs = ids_of(acquired), [list(crc) for crc in CRCS]

    def change() -> None:
        del ids[1:], crcs[3:]
        crcs[1][0], crcs[2][:] = 0, []

    between.arm(0, change)
    store.commit(ids, crcs, client.holder_id)
    assert between.disarm()
    assert_right_bytes(client, client.acquire([PATH], 5))
    client.close()
    assert_balanced(store)
    store.close()
