"""What one node's shard does for another: two real stores, and what travels between them."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest

from actors import guests, parcels
from actors.parcels import Parcel, chunks
from actors.stays import Guest
from kvstore.errors import StoreUnavailableError
from kvstore.types import HolderId, LeaseId
from tests.actors.visiting import Node, parcel, somebody
from tests.kvstore.segments import (
    TRUNK,
    assert_right_bytes,
    chain_of,
    compute,
    passage,
    payload,
    store_path,
)

PATHS = [chain_of(TRUNK, passage(n)) for n in range(6)]
SEGMENT = 12 * 1024


@pytest.fixture
def two(tmp_path: FilePath) -> Iterator[tuple[Node, Node]]:
    with ExitStack() as stack:
        made = [Node(tmp_path / name) for name in "ab"]
        for node in made:
            stack.callback(node.close)
        yield made[0], made[1]


def test_what_is_found_comes_in_chunks_and_is_kept_where_it_goes(two: tuple[Node, Node]) -> None:
    a, b = two
    store_path(a.client, *PATHS[:4])
    fetched = a.guests.fetch(somebody(), PATHS, 5.0, claim=False, max_bytes=2 * SEGMENT)
    assert len(fetched.found) == 5 and 1 <= len(fetched.parcels) <= 3
    rest = [s.key for s in fetched.found if s not in {p.spec for p in fetched.parcels}]
    parcels = [*fetched.parcels, *a.guests.read(fetched.lease_id, rest)]
    assert b.guests.deliver(None, parcels) == 5
    assert b.guests.deliver(None, parcels) == 0, "it has them"
    acquired = b.client.acquire(PATHS[:4], 5.0)
    assert not acquired.tickets
    assert_right_bytes(b.client, acquired)
    b.client.release(acquired.lease_id)
    a.guests.leave(fetched.lease_id)
    with pytest.raises(StoreUnavailableError):
        a.guests.read(fetched.lease_id, rest)
    assert a.guests.sent_bytes == b.guests.received_bytes > 4 * SEGMENT


def test_a_claim_is_delivered_under_its_lease_and_who_waits_gets_it(two: tuple[Node, Node]) -> None:
    a, _ = two
    claimed = a.guests.fetch(somebody(), PATHS[:1], 5.0, claim=True, max_bytes=SEGMENT)
    waiting = a.guests.fetch(somebody("third"), PATHS[:1], 5.0, claim=True, max_bytes=SEGMENT)
    assert len(claimed.tickets) == 2 and not waiting.tickets and len(waiting.waiters) == 1
    assert a.guests.claimants() == {"other": {somebody().holder}}
    assert a.guests.deliver(claimed.lease_id, [parcel(spec) for spec in PATHS[0]]) == 2
    a.store.wait(waiting.waiters, 1.0)
    for fetched in (claimed, waiting):
        a.guests.leave(fetched.lease_id)
    assert len(a.guests) == 0


@pytest.mark.parametrize("damage", ["a flipped bit", "too short"])
def test_damaged_bytes_are_kept_by_nobody(two: tuple[Node, Node], damage: str) -> None:
    a, _ = two
    right = payload(PATHS[0][0])
    wrong = right[:-1] + bytes([right[-1] ^ 1]) if damage == "a flipped bit" else right[:-1]
    assert a.guests.deliver(None, [parcel(PATHS[0][0], wrong)]) == 0
    claimed = a.guests.fetch(somebody(), PATHS[:1], 5.0, claim=True, max_bytes=SEGMENT)
    assert a.guests.deliver(claimed.lease_id, [parcel(PATHS[0][0], wrong)]) == 0
    a.guests.leave(claimed.lease_id)
    again = a.guests.fetch(somebody(), PATHS[:1], 5.0, claim=True, max_bytes=SEGMENT)
    assert len(again.tickets) == 2, "to be computed by the next"
    a.guests.leave(again.lease_id)


def test_a_guest_that_ended_or_stays_too_long_holds_nothing(tmp_path: FilePath) -> None:
    node = Node(tmp_path / "node", lease_s=0.5)
    dead, slow = somebody(), replace(somebody(), node_id="slow")
    node.guests.fetch(dead, PATHS[:1], 5.0, claim=True, max_bytes=SEGMENT)
    node.guests.fetch(slow, [chain_of(passage(9))], 5.0, claim=True, max_bytes=SEGMENT)
    node.guests.expire({dead})
    assert set(node.guests.claimants()) == {"slow"}
    time.sleep(0.6)
    node.guests.expire()
    assert len(node.guests) == 0 and node.store.stats().leases == 0
    node.close()


def test_chunks_are_bounded_and_a_larger_segment_is_one_alone() -> None:
    specs = [path[-1] for path in PATHS]
    assert [len(c) for c in chunks(specs, 2 * SEGMENT)] == [2, 2, 2]
    assert [len(c) for c in chunks(specs, 1)] == [1] * 6


def test_what_guests_claim_reserves_a_share_of_dram_and_the_rest_is_the_nodes(
    tmp_path: FilePath,
) -> None:
    node = Node(tmp_path / "node", guests_share=0.25)
    many = [chain_of([n] * 8, passage(n)) for n in range(100)]
    claimed = node.guests.fetch(somebody(), many, 5.0, claim=True, max_bytes=1)
    capacity = node.store.stats().dram.capacity_bytes
    assert 0.2 * capacity < node.store.stats().dram.used_bytes <= 0.25 * 2**20
    own = compute(node.client, *PATHS)
    assert all(ticket.extent for ticket in own.tickets.values()), "there is room for its own"
    free = [path for path in many if path[0].key not in claimed.tickets]
    assert node.guests.deliver(None, [parcel(free[0][0])]) == 1, "and for what comes computed"
    taken = [spec for path in many for spec in path if spec.key in claimed.tickets][:4]
    assert node.guests.deliver(claimed.lease_id, [parcel(spec) for spec in taken]) == 4
    more = node.guests.fetch(somebody(), free[1:], 5.0, claim=True, max_bytes=1)
    assert more.tickets, "what was computed is reserved no more"
    for lease_id in (claimed.lease_id, more.lease_id):
        node.guests.leave(lease_id)
    node.client.release(own.lease_id)
    node.close()


def test_a_reply_carries_no_more_than_a_chunk_whatever_is_asked(
    two: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = two
    monkeypatch.setattr(guests, "CHUNK_BYTES", 2 * SEGMENT)
    store_path(a.client, *PATHS[:5])
    fetched = a.guests.fetch(somebody(), PATHS[:5], 5.0, claim=False, max_bytes=2**60)
    assert sum(parcel.data.nbytes for parcel in fetched.parcels) <= 2 * SEGMENT
    parcels = a.guests.read(fetched.lease_id, [spec.key for spec in fetched.found])
    assert 0 < sum(parcel.data.nbytes for parcel in parcels) <= 2 * SEGMENT
    a.guests.leave(fetched.lease_id)


def test_a_call_carries_no_more_than_so_many(
    two: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _ = two
    monkeypatch.setattr(parcels, "MAX_PARCELS", 2)
    some = [parcel(path[1]) for path in PATHS[:3]]
    calls = (
        lambda: a.guests.deliver(None, some),
        lambda: a.guests.take_over(some),
        lambda: a.guests.read(LeaseId(1), [path[1].key for path in PATHS[:3]]),
    )
    for call in calls:
        with pytest.raises(ValueError, match="at most 2"):
            call()
    assert a.guests.deliver(None, some[:2]) == 2


@pytest.mark.parametrize("nbytes", [1, SEGMENT - 1, SEGMENT + 1])
@pytest.mark.parametrize("way", ["deliver", "take_over"])
def test_a_parcel_that_does_not_fit_is_not_looked_at(
    two: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch, way: str, nbytes: int
) -> None:
    a, _ = two
    wrong = Parcel(PATHS[0][1], (0, 0, 0), np.zeros(nbytes, np.uint8))

    def copy_into(*_: object) -> None:
        raise AssertionError("copied")

    monkeypatch.setattr(Parcel, "copy_into", copy_into)
    getattr(a.guests, way)(*((None, [wrong]) if way == "deliver" else ([wrong],)))
    assert not a.store.locate([wrong.spec.key])


@pytest.mark.parametrize("guest", [None, Guest("node", ["x"]), Guest(5, HolderId("0" * 16))])  # type: ignore[arg-type]
def test_who_could_not_be_asked_whether_it_lives_claims_nothing(
    two: tuple[Node, Node], guest: Guest
) -> None:
    a, _ = two
    with pytest.raises(ValueError, match="guest"):
        a.guests.fetch(guest, PATHS, 5.0, claim=True, max_bytes=SEGMENT)
    assert not len(a.guests) and not a.store.stats().open_tickets


def anything(**fields: Any) -> dict[str, Any]:
    """Of any type."""
    return fields


def test_what_is_no_parcel_keeps_no_other_from_being_taken(two: tuple[Node, Node]) -> None:
    a, _ = two
    good, spec = parcel(PATHS[0][0]), PATHS[0][1]
    bad: list[Any] = [
        None,
        5,
        replace(good, **anything(spec=None)),
        replace(parcel(spec), **anything(data=None)),
        replace(parcel(spec), **anything(data=payload(spec))),
        replace(parcel(spec), data=parcel(spec).data[:8]),
        replace(parcel(spec), data=parcel(spec).data.view(np.float32)),
    ]
    assert a.guests.deliver(None, [*bad, good]) == 1
    taken = a.guests.take_over([*bad, good])
    assert taken.kept == {good.spec.key} and not taken.refused
