"""What no caller may hand in raises ValueError by the argument's name, and changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kvstore.arguments import MAX_SECONDS
from kvstore.errors import StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired, Extent, Lineage, Ticket, TicketId
from tests.kvstore.segments import (
    assert_balanced,
    assert_right_bytes,
    chain_of,
    compute,
    crcs_of,
    fill,
    passage,
    store_path,
)

PATH = chain_of(passage(1), passage(2))
KEY, HOLDER = PATH[0].key, "0" * 16
NAN, INFINITE = float("nan"), float("inf")
Call = Callable[[Any, Any], object]

STORE_CALLS: list[tuple[Call, str]] = [
    (lambda s, v: s.register(v), "holder"),
    (lambda s, v: s.unregister(v), "holder"),
    (lambda s, v: s.bound_claims(v, 1), "holder"),
    (lambda s, v: s.bound_claims(HOLDER, v), "max_bytes"),
    (lambda s, v: s.acquire(v, HOLDER, 1.0), "paths"),
    (lambda s, v: s.acquire([PATH], v, 1.0), "holder"),
    (lambda s, v: s.acquire([PATH], HOLDER, v), "deadline_s"),
    (lambda s, v: s.acquire([PATH], HOLDER, 1.0, v), "streamed"),
    (lambda s, v: s.acquire([PATH], HOLDER, 1.0, False, v), "claim"),
    (lambda s, v: s.commit(v, [], HOLDER), "ticket_ids"),
    (lambda s, v: s.commit([7], v, HOLDER), "crcs"),
    (lambda s, v: s.commit([7], [v], HOLDER), r"crcs\[0\]"),
    (lambda s, v: s.commit([7], [[1, v]], HOLDER), r"crcs\[0\]\[1\]"),
    (lambda s, v: s.commit([7], [[1]], v), "holder"),
    (lambda s, v: s.commit([7], [[1]], HOLDER, v), "lineages"),
    (lambda s, v: s.commit([7], [[1]], HOLDER, [Lineage(v)]), r"lineages\[0\].removals"),
    (lambda s, v: s.abort(v, HOLDER), "ticket_ids"),
    (lambda s, v: s.abort([1, v], HOLDER), r"ticket_ids\[1\]"),
    (lambda s, v: s.abort([1], v), "holder"),
    (lambda s, v: s.release(v, HOLDER), "lease_id"),
    (lambda s, v: s.release(1, v), "holder"),
    (lambda s, v: s.trim(v, HOLDER), "kept"),
    (lambda s, v: s.trim({7: [KEY, v]}, HOLDER), r"kept\[7\]\[1\]"),
    (lambda s, v: s.trim({7: []}, v), "holder"),
    (lambda s, v: s.trim({7: []}, HOLDER, v), "used"),
    (lambda s, v: s.note_uses(v), "keys"),
    (lambda s, v: s.wait(v, 1.0), "keys"),
    (lambda s, v: s.wait([KEY], v), "deadline_s"),
    (lambda s, v: s.announce(v, bytes(8), [KEY], 1.0), "request_id"),
    (lambda s, v: s.announce("r", v, [KEY], 1.0), "tenant"),
    (lambda s, v: s.announce("r", bytes(8), v, 1.0), "keys"),
    (lambda s, v: s.announce("r", bytes(8), [KEY], v), "deadline_s"),
    (lambda s, v: s.retire(v), "request_id"),
    (lambda s, v: s.locate(v), "keys"),
    (lambda s, v: s.locate([v]), r"keys\[0\]"),
    (lambda s, v: s.remove_tags(v), "tags"),
    (lambda s, v: s.remove_tags([v]), r"tags\[0\]"),
    (lambda s, v: s.remove_tags([], v), "removal"),
    (lambda s, v: s.checksums(v), "keys"),
    (lambda s, v: s.lineages(v), "keys"),
    (lambda s, v: s.kept(v), "keys"),
    (lambda s, v: s.let_go(v), "keys"),
    (lambda s, v: s.own(v), "owns"),
    (lambda s, v: s.check(v), "repair"),
    (lambda s, v: s.flush(v), "timeout_s"),
    (lambda s, v: s.close(v), "timeout_s"),
]


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("cannot be shown")


WRONG: list[Any] = [
    None, "", "x" * 300, b"bytes", -1, -0.5, NAN, INFINITE, 2 * MAX_SECONDS, 2.5j, -(10**5000),
    Unspeakable(),
]  # fmt: skip


@pytest.mark.parametrize(("call", "name"), STORE_CALLS)
def test_the_store_refuses_wrong_arguments(
    store: KVStore, client: LocalStoreClient, call: Call, name: str
) -> None:
    held = compute(client, PATH)
    assert store.flush(10)
    before = store.stats()
    for value in WRONG:
        with pytest.raises(ValueError, match=f"^{name} "):
            call(store, value)
    assert store.stats() == before
    assert_right_bytes(client, held)
    assert_balanced(store)


CLIENT_CALLS: list[tuple[Call, str]] = [
    (lambda c, v: c.acquire(v, 1.0), "paths"),
    (lambda c, v: c.acquire([PATH], v), "deadline_s"),
    (lambda c, v: c.acquire([PATH], 1.0, v), "streamed"),
    (lambda c, v: c.acquire([PATH], 1.0, False, v), "claim"),
    (lambda c, v: c.view(v, None), "acquired"),
    (lambda c, v: c.commit(None, v), "tickets"),
    (lambda c, v: c.commit(None, [v]), r"tickets\[0\]"),
    (lambda c, v: c.abort(None, [v]), r"tickets\[0\]"),
    (lambda c, v: c.writable(None, v), r"tickets\[0\]"),
    (lambda c, v: c.unchanged(v, []), "acquired"),
    (lambda c, v: c.await_layer(v, [], 0, 1.0), "acquired"),
    (lambda c, v: c.await_layer(None, [], v, 1.0), "layer"),
    (lambda c, v: c.await_layer(None, [], 0, v), "deadline_s"),
    (lambda c, v: c.await_layer(None, [], 0, 1.0, -1.0 if v == INFINITE else v), "stall_s"),
    (lambda c, v: c.release(v), "lease_id"),
    (lambda c, v: c.trim(v), "kept"),
    (lambda c, v: c.wait(v, 1.0), "keys"),
    (lambda c, v: c.wait([KEY], v), "deadline_s"),
    (lambda c, v: c.announce(v, [PATH], 1.0), "request_id"),
    (lambda c, v: c.announce("r", v, 1.0), "paths"),
    (lambda c, v: c.announce("r", [PATH], v), "deadline_s"),
    (lambda c, v: c.retire(v), "request_id"),
    (lambda c, v: c.locate([v]), r"keys\[0\]"),
    (lambda c, v: c.remove_tags([v]), r"tags\[0\]"),
]


@pytest.mark.parametrize(("call", "name"), CLIENT_CALLS)
def test_the_client_refuses_wrong_arguments(
    store: KVStore, client: LocalStoreClient, call: Call, name: str
) -> None:
    held = compute(client, PATH)
    assert store.flush(10)
    before = store.stats()
    for value in WRONG:
        with pytest.raises(ValueError, match=f"^{name} "):
            call(client, value)
    assert store.stats() == before
    assert_right_bytes(client, held)
    assert_balanced(store)


def test_an_array_is_no_time(store: KVStore, client: LocalStoreClient) -> None:
    held = compute(client, PATH)
    with pytest.raises(ValueError, match=r"^stall_s is of type ndarray"):
        client.await_layer(held, [], 0, 1.0, np.zeros(2))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [5, None, "extents", Unspeakable()])
def test_extents_come_in_a_collection(store: KVStore, client: LocalStoreClient, value: Any) -> None:
    held = compute(client, PATH)
    with pytest.raises(ValueError, match=r"^extents "):
        client.unchanged(held, value)
    with pytest.raises(ValueError, match=r"^extents "):
        client.await_layer(held, value, 0, 1.0)


def test_an_extent_that_nobody_gave_reaches_nothing(
    store: KVStore, client: LocalStoreClient
) -> None:
    held = compute(client, PATH)
    right = held.hits or client.acquire([PATH], 1).hits
    extent = right[KEY].extent
    wrong = [
        Extent(0, 4096, 0),
        extent._replace(offset=-extent.offset),
        extent._replace(offset=extent.offset + 1),
        extent._replace(offset=float(extent.offset)),  # type: ignore[arg-type]
        extent._replace(nbytes=0),
        extent._replace(nbytes=2**62),
        extent._replace(offset=2**62),
        None,
    ]
    for one in wrong:
        for call in _calls_of_an_extent(client, held, one):
            with pytest.raises(ValueError, match="^extent "):
                call()
    assert_right_bytes(client, held)
    assert_balanced(store)


def _calls_of_an_extent(
    client: LocalStoreClient, held: Acquired, extent: Any
) -> list[Callable[[], object]]:
    calls: list[Callable[[], object]] = [
        lambda: client.view(held, extent),
        lambda: client.unchanged(held, [extent]),
        lambda: client.await_layer(held, [extent], 0, 1.0),
    ]
    if extent is not None:
        calls.append(lambda: client.writable(held, Ticket(1, PATH[0], extent)))  # type: ignore[arg-type]
    return calls


def test_commit_takes_all_of_its_tickets_or_none(store: KVStore, client: LocalStoreClient) -> None:
    acquired = client.acquire([PATH], 1)
    tickets = list(acquired.tickets.values())
    fill(client, acquired, tickets)
    first, second = (ticket.ticket_id for ticket in tickets)
    crcs = [crcs_of(spec) for spec in PATH]
    wrong: list[tuple[list[Any], list[Any]]] = [
        ([first, second], crcs[:1]),
        ([first], crcs),
        ([first, first], [crcs[0], crcs[0]]),
        ([first, second], [crcs[0], ["x", 1, 2]]),
        ([first, second], [crcs[0], (1, 2, 2**32)]),
        ([first, True], crcs),
    ]
    for ticket_ids, checksums in wrong:
        with pytest.raises(ValueError, match="ticket_ids|crcs"):
            store.commit(ticket_ids, checksums, client.holder_id)
    with pytest.raises(StoreUnavailableError, match="is not open"):
        store.commit([first, TicketId(second + 1000)], crcs, client.holder_id)
    assert store.stats().open_tickets == 2 and store.stats().commits == 0
    assert_balanced(store)
    store.commit([first, second], crcs, client.holder_id)
    assert_right_bytes(client, client.acquire([PATH], 1))
    assert_balanced(store)


def test_a_segment_that_cannot_fit_is_nobodys_loss(
    store: KVStore, client: LocalStoreClient
) -> None:
    store_path(client, PATH)
    spec = chain_of(passage(9))[0]
    huge = replace(spec, layout=replace(spec.layout, num_tokens=2**32 - 1, head_dim=2**32 - 1))
    acquired = client.acquire([(huge,)], 1)
    assert acquired.tickets[huge.key].extent is None
    assert store.stats().dram.evictions == 0
    assert client.acquire([PATH], 1).hits.keys() == {spec.key for spec in PATH}
    assert_balanced(store)


@pytest.mark.parametrize("end", ["commit", "abort", "release", "trim", "close"])
def test_nothing_is_written_for_a_ticket_that_is_over(
    store: KVStore, client: LocalStoreClient, end: str
) -> None:
    """By then its bytes may be another client's."""
    acquired = client.acquire([PATH], 1)
    ticket = acquired.tickets[KEY]
    fill(client, acquired, list(acquired.tickets.values()))
    if end == "commit":
        client.commit(acquired, [ticket])
    elif end == "abort":
        client.abort(acquired, [ticket])
    elif end == "release":
        client.release(acquired.lease_id)
    elif end == "trim":
        client.trim({acquired.lease_id: []})
    else:
        client.close()
    with pytest.raises(StoreUnavailableError):
        client.writable(acquired, ticket)


def test_a_ticket_is_written_for_under_its_own_lease_alone(
    store: KVStore, client: LocalStoreClient
) -> None:
    first, other = client.acquire([PATH[:1]], 1), client.acquire([chain_of(passage(3))], 1)
    (ticket,) = first.tickets.values()
    for lease, wrong in (
        (other, ticket),
        (first, replace(ticket, ticket_id=TicketId(ticket.ticket_id + 1000))),
        (first, replace(ticket, extent=next(iter(other.tickets.values())).extent)),
    ):
        with pytest.raises(StoreUnavailableError):
            client.writable(lease, wrong)
    assert client.writable(first, ticket).nbytes == ticket.spec.layout.nbytes


def test_a_removals_id_and_lineages_are_looked_at(store: KVStore, client: LocalStoreClient) -> None:
    with pytest.raises(ValueError, match="removal"):
        store.remove_tags([], b"short")
    acquired = client.acquire([chain_of(passage(1))], 5)
    ids = [ticket.ticket_id for ticket in acquired.tickets.values()]
    with pytest.raises(ValueError, match="lineages"):
        store.commit(ids, [(0, 0, 0)], client.holder_id, [Lineage(), Lineage()])
    with pytest.raises(ValueError, match="lineages"):
        store.commit(ids, [(0, 0, 0)], client.holder_id, [b""])  # type: ignore[list-item]
    client.release(acquired.lease_id)
    assert_balanced(store)
