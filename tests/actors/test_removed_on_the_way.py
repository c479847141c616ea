"""What is on its way between nodes while its passage is removed from all of them: three real
stores, and parcels that come late."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path as FilePath

import pytest

from actors.moving import Mover
from actors.parcels import Parcel
from kvstore.types import SegmentSpec
from tests.actors.test_moving import FAST, eventually, members, owned_by
from tests.actors.visiting import Gate, Node, somebody
from tests.actors.wire import Wire
from tests.kvstore.segments import TRUNK, chain_of, compute, passage, store_path

PATH = chain_of(TRUNK, passage(1), passage(2))
REMOVED, FOLLOWS = PATH[1], PATH[2]
OTHER = chain_of(TRUNK, passage(3))


@pytest.fixture
def two(tmp_path: FilePath) -> Iterator[tuple[Node, Node]]:
    with ExitStack() as stack:
        made = [Node(tmp_path / name) for name in "ab"]
        for node in made:
            stack.callback(node.close)
        yield made[0], made[1]


def sent_by(node: Node, *specs: SegmentSpec) -> list[Parcel]:
    """Copies: they stay on the wire after their lease."""
    acquired, parcels = node.guests.parcels(specs)
    found = [Parcel(p.spec, p.crcs, p.data.copy(), p.lineage) for p in parcels]
    node.guests.release(acquired)
    assert len(found) == len(specs)
    return found


def remove(*nodes: Node) -> None:
    removal = secrets.token_bytes(16)
    for node in nodes:
        node.store.remove_tags([REMOVED.tag], removal)


def is_there(node: Node, *specs: SegmentSpec) -> bool:
    return bool(node.store.locate([spec.key for spec in specs]))


@pytest.mark.parametrize("spec", [REMOVED, FOLLOWS], ids=["removed", "follows"])
@pytest.mark.parametrize("way", ["deliver", "take_over"])
def test_what_left_before_a_removal_is_not_kept(
    two: tuple[Node, Node], way: str, spec: SegmentSpec
) -> None:
    a, b = two
    store_path(a.client, PATH, OTHER)
    late = sent_by(a, spec, OTHER[1])
    remove(a, b)
    if way == "deliver":
        b.guests.deliver(None, late)
    else:
        assert b.guests.take_over(late).kept == {OTHER[1].key}
    assert not is_there(b, spec) and is_there(b, OTHER[1])


@pytest.mark.parametrize("way", ["deliver", "take_over"])
def test_what_follows_a_removed_prefix_goes_from_a_node_that_never_had_the_prefix(
    two: tuple[Node, Node], way: str
) -> None:
    a, b = two
    path = chain_of([9] * 8, passage(1), passage(2), own_prefix=True)
    store_path(a.client, path, OTHER)
    parcels = sent_by(a, *path[1:], OTHER[1])
    if way == "deliver":
        assert b.guests.deliver(None, parcels) == 3
    else:
        b.guests.take_over(parcels)
    assert not is_there(b, path[0]) and is_there(b, path[1]) and is_there(b, path[2])
    removal = secrets.token_bytes(16)
    for node in two:
        node.store.remove_tags([path[0].tag], removal)
    assert not is_there(b, *path) and is_there(b, OTHER[1])


def test_a_claim_made_since_is_not_filled_by_what_left_before(two: tuple[Node, Node]) -> None:
    a, b = two
    store_path(a.client, PATH)
    late = sent_by(a, REMOVED)
    remove(a, b)
    claimed = b.guests.fetch(somebody(), [PATH], 5.0, claim=True, max_bytes=0)
    assert REMOVED.key in claimed.tickets
    b.guests.deliver(claimed.lease_id, late)
    b.guests.leave(claimed.lease_id)
    assert not is_there(b, REMOVED)


def test_a_removal_that_has_come_no_further_than_the_receiver_counts(
    two: tuple[Node, Node],
) -> None:
    a, b = two
    store_path(a.client, PATH)
    remove(b)
    b.guests.deliver(None, sent_by(a, REMOVED, FOLLOWS))
    assert not is_there(b, REMOVED, FOLLOWS)


def test_what_was_ingested_again_is_taken(two: tuple[Node, Node]) -> None:
    a, b = two
    store_path(a.client, PATH)
    remove(a, b)
    store_path(a.client, PATH)
    assert b.guests.deliver(None, sent_by(a, *PATH)) == len(PATH)
    assert is_there(b, REMOVED) and is_there(b, FOLLOWS)


def test_a_copy_that_was_fetched_before_is_for_its_request_alone(two: tuple[Node, Node]) -> None:
    """The node of the request had made the removal, the node that it fetched from had not."""
    a, b = two
    store_path(a.client, PATH)
    parcels = {parcel.spec.key: parcel for parcel in sent_by(a, *PATH)}
    remove(b)
    acquired = b.client.acquire([PATH], 5.0)
    tickets = list(acquired.tickets.values())
    for ticket in tickets:
        parcels[ticket.spec.key].copy_into(b.client.writable(acquired, ticket))
    found = [parcels[ticket.spec.key] for ticket in tickets]
    b.client.publish(tickets, [p.crcs for p in found], [p.lineage for p in found])
    remove(a)
    assert not is_there(b, REMOVED, FOLLOWS)
    b.client.release(acquired.lease_id)


def test_a_move_that_is_under_way_brings_nothing_back(two: tuple[Node, Node]) -> None:
    a, b = two
    acquired = compute(a.client, PATH, OTHER)
    assert a.store.flush(30)
    wire = Wire({"a": a, "b": b})
    mover = Mover("a", a.store, a.guests, wire, FAST)
    membership = members(1, "b")
    for name, node in (("a", a), ("b", b)):
        node.store.own(owned_by(name, membership))
    wire.gate = gate = Gate()
    mover.follow(membership)
    gate.await_copy()
    taking = threading.Event()
    take_over = b.guests.take_over

    def late(parcels: list[Parcel]) -> object:
        """What was sent arrives after all nodes have made the removal."""
        if not taking.is_set():
            taking.set()
            remove(a, b)
        return take_over(parcels)

    b.guests.take_over = late  # type: ignore[assignment, method-assign]  # the wire's delay
    gate.open()
    eventually(lambda: mover.done_epoch == 1)
    mover.close(30)
    a.client.release(acquired.lease_id)
    assert taking.is_set() and is_there(b, OTHER[1])
    assert not is_there(b, REMOVED, FOLLOWS) and not is_there(a, REMOVED, FOLLOWS)
