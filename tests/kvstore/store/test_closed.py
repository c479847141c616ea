"""After `close` every call does what is written: it raises StoreUnavailableError, or nothing."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from kvstore import commits
from kvstore.books import Books
from kvstore.config import StoreConfig
from kvstore.errors import CorruptSegmentError, StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.scrub import damage_of
from kvstore.store import KVStore
from kvstore.tiers.dram import Slot
from kvstore.types import Acquired, HolderId, TicketId
from tests.kvstore.segments import assert_balanced, chain_of, fill, passage, payload, store_path

PATH = chain_of(passage(1), passage(2))
KEY = PATH[0].key
HOLDER = HolderId("0" * 16)
Call = Callable[[Any, Any], object]


def ids(acquired: Acquired) -> list[TicketId]:
    return [ticket.ticket_id for ticket in acquired.tickets.values()]


STORE: dict[str, Call] = {
    "register": lambda s, a: s.register("0" * 16),
    "bound_claims": lambda s, a: s.bound_claims("0" * 16, 4096),
    "acquire": lambda s, a: s.acquire([PATH], "0" * 16, 1.0),
    "commit": lambda s, a: s.commit(ids(a), [(1, 2, 3)] * 2, HOLDER),
    "abort": lambda s, a: s.abort(ids(a), HOLDER),
    "release": lambda s, a: s.release(a.lease_id, HOLDER),
    "trim": lambda s, a: s.trim({a.lease_id: []}, HOLDER),
    "note_uses": lambda s, a: s.note_uses([KEY]),
    "wait": lambda s, a: s.wait([KEY], 1.0),
    "announce": lambda s, a: s.announce("r", bytes(8), [KEY], 1.0),
    "retire": lambda s, a: s.retire("r"),
    "locate": lambda s, a: s.locate([KEY]),
    "remove_tags": lambda s, a: s.remove_tags([PATH[0].tag]),
    "checksums": lambda s, a: s.checksums([KEY]),
    "lineages": lambda s, a: s.lineages([KEY]),
    "withhold_while": lambda s, a: s.withhold_while(lambda: ""),
    "own": lambda s, a: s.own(lambda keys: [False] * len(keys)),
    "holdings": lambda s, a: s.holdings(),
    "kept": lambda s, a: s.kept([KEY]),
    "let_go": lambda s, a: s.let_go([KEY]),
    "stats": lambda s, a: s.stats(),
    "check": lambda s, a: s.check(),
    "flush": lambda s, a: s.flush(1.0),
}
STORE_NOTHING: dict[str, Call] = {
    "unregister": lambda s, a: s.unregister("0" * 16),
    "take_uses_of_copies": lambda s, a: s.take_uses_of_copies(),
    "close": lambda s, a: s.close(),
}
CLIENT: dict[str, Call] = {
    "acquire": lambda c, a: c.acquire([PATH], 1.0),
    "await_layer": lambda c, a: c.await_layer(a, [], 0, 1.0),
    "view": lambda c, a: c.view(a, a.tickets[KEY].extent),
    "writable": lambda c, a: c.writable(a, a.tickets[KEY]),
    "unchanged": lambda c, a: c.unchanged(a, []),
    "commit": lambda c, a: c.commit(a, list(a.tickets.values())),
    "publish": lambda c, a: c.publish(list(a.tickets.values()), [(1, 2, 3)] * 2),
    "wait": lambda c, a: c.wait([KEY], 1.0),
    "announce": lambda c, a: c.announce("r", [PATH], 1.0),
    "locate": lambda c, a: c.locate([KEY]),
    "remove_tags": lambda c, a: c.remove_tags([PATH[0].tag]),
    "checksums": lambda c, a: c.checksums([KEY]),
    "lineages": lambda c, a: c.lineages([KEY]),
    "stats": lambda c, a: c.stats(),
}
CLIENT_NOTHING: dict[str, Call] = {
    "abort": lambda c, a: c.abort(a, list(a.tickets.values())),
    "release": lambda c, a: c.release(a.lease_id),
    "trim": lambda c, a: c.trim({a.lease_id: []}),
    "retire": lambda c, a: c.retire("r"),
    "close": lambda c, a: c.close(),
}


def methods_of(cls: type) -> set[str]:
    found = inspect.getmembers(cls, inspect.isfunction)
    return {name for name, _ in found if not name.startswith("_")}


def test_every_public_method_is_in_a_table() -> None:
    assert methods_of(KVStore) == STORE.keys() | STORE_NOTHING.keys()
    assert methods_of(LocalStoreClient) == CLIENT.keys() | CLIENT_NOTHING.keys()


def test_a_closed_store_says_so(config: StoreConfig) -> None:
    """Also to a lease and tickets that were open when it was closed."""
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire([PATH], 1)
    store.close()
    for name, call in STORE.items():
        with pytest.raises(StoreUnavailableError):
            call(store, acquired)
            pytest.fail(f"{name} does not raise")
    for ask in (lambda: store.locate([]), lambda: store.let_go([]), lambda: store.trim({}, HOLDER)):
        with pytest.raises(StoreUnavailableError):
            ask()
    for call in STORE_NOTHING.values():
        assert not call(store, acquired)
    client.close()


def test_a_client_of_a_closed_store_is_told(config: StoreConfig) -> None:
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire([PATH], 1)
    store.close()
    calls = CLIENT | {name: CLIENT_NOTHING[name] for name in ("abort", "release", "retire")}
    for name in calls.keys() - {"await_layer", "view", "writable", "unchanged"}:
        with pytest.raises(StoreUnavailableError):
            calls[name](client, acquired)
            pytest.fail(f"{name} does not raise")
    client.close()


def test_a_closed_client_says_so_and_holds_nothing(store: KVStore, config: StoreConfig) -> None:
    client = LocalStoreClient(store, config.dram_dir)
    store_path(client, chain_of(passage(3)))
    acquired = client.acquire([PATH], 1)
    fill(client, acquired, list(acquired.tickets.values()))
    extent = acquired.tickets[KEY].extent
    assert extent is not None
    view = client.view(acquired, extent)
    client.close()
    for name, call in CLIENT.items():
        with pytest.raises(StoreUnavailableError):
            call(client, acquired)
            pytest.fail(f"{name} does not raise")
    for call in CLIENT_NOTHING.values():
        assert call(client, acquired) is None
    assert bytes(view) == payload(PATH[0]), "a view that is out stays valid"
    assert store.stats().leases == store.stats().open_tickets == 0
    assert_balanced(store)


def test_a_store_that_closes_under_a_commit_says_so(
    config: StoreConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire([PATH], 1)
    fill(client, acquired, list(acquired.tickets.values()))

    def closes_first(books: Books, slot: Slot) -> CorruptSegmentError | None:
        store.close()
        return damage_of(books, slot)

    monkeypatch.setattr(commits, "damage_of", closes_first)
    with pytest.raises(StoreUnavailableError):
        client.commit(acquired, list(acquired.tickets.values()))
    client.close()
