"""Leases of guests that end while a delivery still writes into their memory."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path as FilePath

import pytest

from actors.guests import Fetched
from tests.actors.visiting import Gate, Node, gated, parcel, somebody
from tests.kvstore.segments import (
    TRUNK,
    assert_balanced,
    assert_right_bytes,
    chain_of,
    compute,
    passage,
)

PATH = chain_of(TRUNK, passage(1))
OTHERS = [chain_of([9] * 8, passage(n)) for n in range(2, 6)]


@pytest.fixture
def node(tmp_path: FilePath) -> Iterator[Node]:
    node = Node(tmp_path / "node")
    yield node
    node.close()


class Filling:
    """A delivery of the last segment of `PATH` that has come half way into its ticket's extent."""

    def __init__(self, node: Node) -> None:
        self.node, self.gate, self.kept = node, Gate(), -1
        self.claimed = claim(node)
        self._thread = threading.Thread(target=self._deliver)
        self._thread.start()
        self.gate.await_copy()

    def finish(self) -> int:
        self.gate.open()
        self._thread.join(60)
        return self.kept

    def _deliver(self) -> None:
        parcels = [gated(PATH[-1], self.gate)]
        self.kept = self.node.guests.deliver(self.claimed.lease_id, parcels)


def claim(node: Node) -> Fetched:
    return node.guests.fetch(somebody(), [PATH], 5.0, claim=True, max_bytes=1)


def leave(filling: Filling) -> None:
    filling.node.guests.leave(filling.claimed.lease_id)


def die(filling: Filling) -> None:
    filling.node.guests.expire({somebody()})


@pytest.mark.parametrize("end", [leave, die])
def test_memory_that_a_delivery_fills_is_given_away_when_its_copy_has_ended(
    node: Node, end: Callable[[Filling], None]
) -> None:
    filling = Filling(node)
    end(filling)
    assert not node.guests.claimants(), "its lease has ended"
    others = compute(node.client, *OTHERS)
    assert filling.finish() == 1, "it was computed, and is right"
    assert_right_bytes(node.client, node.client.acquire(OTHERS, 5.0))
    node.client.release(others.lease_id)
    assert len(node.guests) == 0
    assert node.store.stats().open_tickets == 0, "the copy's end has released the lease"
    assert_balanced(node.store)


def test_closing_waits_for_a_copy(node: Node) -> None:
    filling = Filling(node)
    closing = threading.Thread(target=node.guests.close, args=(60.0,))
    closing.start()
    others = compute(node.client, *OTHERS)
    filling.finish()
    closing.join(60)
    assert_right_bytes(node.client, node.client.acquire(OTHERS, 5.0))
    node.client.release(others.lease_id)


def test_a_ticket_is_filled_by_one_delivery_once(node: Node) -> None:
    filling = Filling(node)
    lease_id, last = filling.claimed.lease_id, PATH[-1]
    assert node.guests.deliver(lease_id, [parcel(last)]) == 0, "another is at it"
    assert node.guests.deliver(lease_id, [parcel(PATH[0])]) == 1
    assert filling.finish() == 1
    assert node.guests.deliver(lease_id, [parcel(last)]) == 0, "it is there"
    node.guests.leave(lease_id)
    assert node.store.stats().leases == 0


def test_what_another_guest_claimed_meanwhile_is_filled_by_who_has_it(node: Node) -> None:
    claimed = claim(node)
    assert node.guests.deliver(None, [parcel(spec) for spec in PATH]) == 2
    assert node.guests.deliver(claimed.lease_id, [parcel(spec) for spec in PATH]) == 0
    acquired = node.client.acquire([PATH], 5.0)
    assert len(acquired.hits) == 2 and node.store.stats().open_tickets == 0
    assert_right_bytes(node.client, acquired)
    node.client.release(acquired.lease_id)
    node.guests.leave(claimed.lease_id)


def test_a_delivery_under_a_lease_that_has_ended_writes_into_no_memory_of_it(node: Node) -> None:
    claimed = claim(node)
    node.guests.leave(claimed.lease_id)
    others = compute(node.client, *OTHERS)
    assert node.guests.deliver(claimed.lease_id, [parcel(PATH[-1])]) == 1
    acquired = node.client.acquire([*OTHERS, PATH[1:]], 5.0)
    assert len(acquired.hits) == len(OTHERS) + 2 and not acquired.tickets
    assert_right_bytes(node.client, acquired)
    for lease in (others, acquired):
        node.client.release(lease.lease_id)
