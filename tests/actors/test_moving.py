"""A node that gives its segments away to another: two real stores, a wire that fails."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path as FilePath

import pytest

from actors import handover, moving
from actors.moving import Mover
from kvstore.copies import Owns
from kvstore.membership import Member, Membership
from kvstore.ownership import Ownership
from kvstore.types import SegmentKey
from tests.actors.visiting import Node, parcel
from tests.actors.wire import Wire
from tests.kvstore import waiting
from tests.kvstore.segments import (
    TRUNK,
    assert_right_bytes,
    chain_of,
    compute,
    passage,
    store_path,
)

PATHS = [chain_of(TRUNK, passage(n)) for n in range(1, 41)]
KEYS = {spec.key for path in PATHS for spec in path[1:]}
FAST = 1e9
"""Bytes per second."""


class Pair:
    """Node a has all segments, in DRAM and on its SSD; b has nothing."""

    def __init__(self, folder: FilePath, stack: ExitStack) -> None:
        self.a, self.b = Node(folder / "a"), Node(folder / "b")
        for node in (self.a, self.b):
            stack.callback(node.close)
        self.wire = Wire({"a": self.a, "b": self.b})
        store_path(self.a.client, *PATHS)
        assert self.a.store.flush(30)
        self.mover = Mover("a", self.a.store, self.a.guests, self.wire, FAST)
        stack.callback(self.mover.close, 30)

    def follow(self, membership: Membership, *followers: str) -> None:
        for name in followers:
            node: Node = getattr(self, name)
            node.store.own(owned_by(name, membership))
        if "a" in followers:
            self.mover.follow(membership)

    def on_disk(self, name: str) -> set[SegmentKey]:
        node: Node = getattr(self, name)
        level = node.store._books.levels[0]
        with node.store._books.lock:
            return {spec.key for spec in level.shelf.specs()} & KEYS


@pytest.fixture
def pair(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(moving, "_FIRST_RETRY_S", 0.05)
    with ExitStack() as stack:
        yield Pair(tmp_path, stack)


def owned_by(name: str, membership: Membership) -> Owns:
    return Ownership(membership, name)


def members(epoch: int, *names: str) -> Membership:
    return Membership(epoch, tuple(Member(name, name, 100) for name in names))


def foreign(membership: Membership, to: str) -> set[SegmentKey]:
    return {key for key in KEYS if membership.owners(key.placement) == (to,)}


def eventually(condition: Callable[[], bool]) -> None:
    assert waiting.eventually(condition, 60)


def test_what_the_owner_confirms_is_let_go_and_nothing_else(pair: Pair) -> None:
    now = members(1, "a", "b")
    moving_there = foreign(now, "b")
    pair.follow(now, "a", "b")
    eventually(lambda: pair.mover.done_epoch == 1)
    assert pair.on_disk("b") == moving_there and pair.on_disk("a") == KEYS - moving_there
    assert pair.mover.moved_segments == len(moving_there)
    acquired = pair.b.client.acquire([p[1:] for p in PATHS if p[1].key in moving_there], 5.0)
    assert len(acquired.hits) == len(moving_there)
    assert_right_bytes(pair.b.client, acquired)
    pair.b.client.release(acquired.lease_id)


def test_what_an_owner_that_is_away_should_keep_stays_here_and_is_tried_again(pair: Pair) -> None:
    now = members(1, "a", "b")
    pair.wire.cut = {"b"}
    pair.follow(now, "a", "b")
    num_waiting = len(foreign(now, "b"))
    eventually(lambda: pair.mover.waiting == {"b": num_waiting})
    time.sleep(0.3)  # several tries
    assert pair.mover.done_epoch == 0 and pair.on_disk("a") == KEYS
    pair.wire.cut = set()
    eventually(lambda: pair.mover.done_epoch == 1)
    assert pair.on_disk("b") == foreign(now, "b") and not pair.mover.waiting


def test_an_answer_that_is_lost_confirms_nothing_and_the_next_try_finds_it(pair: Pair) -> None:
    now = members(1, "a", "b")
    pair.wire.losing = {"take_over"}
    pair.follow(now, "a", "b")
    eventually(lambda: pair.mover.done_epoch == 1)
    assert pair.on_disk("b") == foreign(now, "b")
    assert pair.on_disk("a") == KEYS - foreign(now, "b")


def test_an_owner_that_has_not_heard_yet_has_mere_copies_which_confirm_nothing(pair: Pair) -> None:
    pair.b.store.own(lambda keys: [False] * len(keys))
    now = members(1, "a", "b")
    pair.follow(now, "a")
    eventually(lambda: pair.b.store.stats().copies_bytes > 0)
    time.sleep(0.3)
    assert pair.mover.done_epoch == 0 and pair.on_disk("a") == KEYS
    pair.follow(now, "b")
    eventually(lambda: pair.mover.done_epoch == 1)
    assert pair.on_disk("b") == foreign(now, "b")


def test_an_owner_without_room_is_asked_again_then_it_stays_here(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = compute(pair.b.client, *[chain_of([n] * 8, passage(n, 200)) for n in range(20)])
    assert any(ticket.extent is None for ticket in pinned.tickets.values()), "it is full"
    assert pair.b.store.flush(30)
    now = members(1, "a", "b")
    monkeypatch.setattr(handover, "MAX_REFUSALS", 3)
    pair.follow(now, "a", "b")
    eventually(lambda: pair.mover.done_epoch == 1)
    left = foreign(now, "b") - pair.on_disk("b")
    assert left and pair.mover.num_unplaced == len(left)
    assert left <= pair.on_disk("a"), "it is kept where it was"
    pair.b.client.release(pinned.lease_id)
    pair.follow(members(2, "a", "b"), "a", "b")
    eventually(lambda: pair.mover.done_epoch == 2)
    assert pair.on_disk("b") >= foreign(now, "b") and not pair.mover.num_unplaced


def test_a_newer_membership_replaces_one_that_waits(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "_FIRST_RETRY_S", 1000.0)
    pair.wire.cut = {"b"}
    pair.follow(members(1, "a", "b"), "a")
    eventually(lambda: bool(pair.mover.waiting))
    pair.follow(members(2, "a"), "a")
    eventually(lambda: pair.mover.done_epoch == 2)
    assert not pair.mover.waiting and pair.on_disk("a") == KEYS


def test_what_contradicts_the_owner_stays_here_and_keeps_nothing_else_waiting(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner has the same digest under another placement: it will never keep this one."""
    now = members(1, "a", "b")
    (one, *_) = [p[1] for p in PATHS if p[1].key in foreign(now, "b")]
    other = replace(one, key=SegmentKey(b"elsewher", one.key.digest))
    assert pair.b.guests.deliver(None, [parcel(other)]) == 1
    monkeypatch.setattr(handover, "MAX_REFUSALS", 3)
    pair.follow(now, "a", "b")
    eventually(lambda: pair.mover.done_epoch == 1)
    assert pair.mover.num_unplaced == 1 and one.key in pair.on_disk("a")
    assert pair.on_disk("b") >= foreign(now, "b") - {one.key}
