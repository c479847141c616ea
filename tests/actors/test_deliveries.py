"""What was computed for another node: two real stores, a wire that is slow or cut."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path as FilePath

import pytest

from actors import deliveries as module
from actors.deliveries import Deliveries
from kvstore.supervised import Supervisor
from kvstore.types import Acquired, SegmentKey
from tests.actors.visiting import Gate, Node, somebody
from tests.actors.wire import Wire
from tests.kvstore.segments import (
    TRUNK,
    assert_right_bytes,
    chain_of,
    compute,
    passage,
)

PATH = chain_of(TRUNK, passage(1), passage(2))
LAST = PATH[-1].key


class Sending:
    """Node a has computed `PATH`, and its last segment is to go to b."""

    def __init__(self, folder: FilePath, stack: ExitStack, max_waiting: int = 64) -> None:
        self.a, self.b = Node(folder / "a"), Node(folder / "b")
        stack.callback(self.a.close)
        stack.callback(self.b.close)
        self.wire = Wire({"b": self.b})
        self.deliveries = Deliveries(self.a.client, self.wire, max_waiting, Supervisor())
        stack.callback(self.deliveries.close, 0.0)

    def compute(self) -> Acquired:
        acquired = compute(self.a.client, PATH)
        self.deliveries.put(acquired, acquired.tickets[LAST], {"b": None})
        return acquired

    def is_there(self) -> bool:
        return LAST in self.b.store.locate([LAST])

    def pinned(self, acquired: Acquired) -> set[SegmentKey]:
        books = self.a.store._books
        with books.lock:
            lease = books.leases.find(acquired.lease_id, self.a.client.holder_id)
            return {slot.spec.key for slot in lease.slots} if lease else set()


@pytest.fixture
def sending(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sending]:
    monkeypatch.setattr(module, "PAUSE_S", 0.05)
    with ExitStack() as stack:
        yield Sending(tmp_path, stack)


@pytest.mark.parametrize("end", ["trim", "trim twice"])
def test_what_waits_to_be_sent_stays_pinned_through_the_end_of_its_request(
    sending: Sending, end: str
) -> None:
    sending.wire.gate = gate = Gate()
    acquired = sending.compute()
    gate.await_copy()  # in the hands of the thread already
    lease_id, client = acquired.lease_id, sending.a.client
    if end == "trim twice":
        client.trim(sending.deliveries.protect({lease_id: [PATH[0].key]}))
        assert sending.pinned(acquired) == {PATH[0].key, LAST}
    client.trim(sending.deliveries.protect({lease_id: ()}))
    assert sending.pinned(acquired) == {LAST}
    gate.open()
    assert sending.deliveries.flush(60)
    assert sending.is_there()
    assert not sending.pinned(acquired) and sending.a.store.stats().leases == 0
    found = sending.b.client.acquire([PATH[-1:]], 5.0)
    assert_right_bytes(sending.b.client, found)
    sending.b.client.release(found.lease_id)


def test_what_the_request_keeps_stays_pinned_when_the_rest_was_sent(sending: Sending) -> None:
    sending.wire.gate = gate = Gate()
    acquired = sending.compute()
    kept = {acquired.lease_id: [PATH[0].key]}
    sending.a.client.trim(sending.deliveries.protect(kept))
    gate.open()
    assert sending.deliveries.flush(60)
    assert sending.pinned(acquired) == {PATH[0].key}
    sending.a.client.release(acquired.lease_id)


def test_a_node_that_does_not_answer_is_tried_again(sending: Sending) -> None:
    sending.wire.losing = {"deliver"}
    acquired = sending.compute()
    sending.a.client.trim(sending.deliveries.protect({acquired.lease_id: ()}))
    assert sending.deliveries.flush(60)
    assert sending.is_there() and sending.deliveries.num_lost == 1, "as far as its sender knows"
    assert sending.a.store.stats().leases == 0, "no try is the last for ever"


def test_a_node_that_comes_back_gets_it(sending: Sending) -> None:
    sending.wire.cut = {"b"}
    acquired = sending.compute()
    assert not sending.deliveries.flush(0.02) and not sending.is_there()
    sending.wire.cut = set()
    assert sending.deliveries.flush(60)
    assert sending.is_there() and sending.deliveries.num_lost == 0
    sending.a.client.release(acquired.lease_id)


def test_what_a_full_queue_drops_is_counted(tmp_path: FilePath) -> None:
    with ExitStack() as stack:
        sending = Sending(tmp_path, stack, max_waiting=1)
        sending.wire.gate = gate = Gate()
        acquired = sending.compute()
        gate.await_copy()
        for spec in PATH[:2]:
            sending.deliveries.put(acquired, acquired.tickets[spec.key], {"b": None})
        assert sending.deliveries.num_lost == 1
        gate.open()
        assert sending.deliveries.flush(60)
        sending.a.client.release(acquired.lease_id)


def test_another_nodes_lease_ends_behind_what_was_put_before(sending: Sending) -> None:
    claimed = sending.b.guests.fetch(somebody(), [PATH], 5.0, claim=True, max_bytes=1)
    acquired = compute(sending.a.client, PATH)
    for spec in PATH:
        to = {"b": claimed.lease_id}
        sending.deliveries.put(acquired, acquired.tickets[spec.key], to)
    sending.deliveries.leave("b", claimed.lease_id)
    assert sending.deliveries.flush(60)
    assert sending.is_there() and len(sending.b.guests) == 0
    assert sending.b.store.stats().aborts == 0
    sending.a.client.release(acquired.lease_id)
