"""What goes and what stays, by what the store knows of it."""

import pytest

from kvstore.allocator import Allocator
from kvstore.eviction import Eviction
from kvstore.occupants import Occupants
from kvstore.pending import PendingWindow
from kvstore.policies import create_policy
from kvstore.shares import Shares
from kvstore.shelf import Shelf
from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey
from tests.kvstore.segments import chain_of

SPECS = [chain_of([n])[0] for n in range(2, 14)]
KEYS = [spec.key for spec in SPECS]
TENANT = SPECS[0].tenant


class Queue:
    """Of a slow tier."""

    def __init__(self) -> None:
        self.unwritten: set[SegmentKey] = set()


class Arena:
    """Twelve granules, one segment in each, used from the left to the right."""

    def __init__(self) -> None:
        self.shelf = Shelf(create_policy("lookahead_lru"))
        self.allocator = Allocator(12)
        self.occupants = Occupants(self.allocator)
        self.window = PendingWindow()
        self.queue = Queue()
        self.eviction = Eviction(
            self.occupants,
            self.shelf,
            Shares(1.0, lambda: 12 * 4096),
            self.window,
            4,
            [self.queue],
        )
        for spec in SPECS:
            self.occupants.enter(spec.key, self.allocator.allocate(1))
            self.shelf.add(Entry(spec, 4096, 0.0))

    def victims(self, length: int, sooner: int = -1) -> list[int]:
        """Their places."""
        return [KEYS.index(key) for key in self.eviction.victims(length, TENANT, sooner)]


@pytest.fixture
def arena() -> Arena:
    return Arena()


def test_the_first_in_the_order_goes_where_it_suffices(arena: Arena) -> None:
    assert arena.victims(1) == [0]
    arena.shelf.policy.hold(KEYS[0].digest)
    assert arena.victims(1) == [1]


def test_neighbours_go_that_were_used_longest_ago(arena: Arena) -> None:
    arena.shelf.touch(KEYS[:6])
    assert arena.victims(3) == [6, 7, 8]


def test_what_waits_to_be_written_stays_while_there_is_else(arena: Arena) -> None:
    arena.queue.unwritten.update(KEYS[:3])
    assert arena.victims(1) == [3] and arena.victims(2) == [3, 4]
    assert arena.victims(11)[0] in (0, 1), "where there is no other way it goes too"


def test_what_is_needed_stays_longest_and_what_is_needed_first_longest_of_all(
    arena: Arena,
) -> None:
    arena.queue.unwritten.update(KEYS[6:])
    arena.window.announce("first", TENANT, KEYS[:3], 60)
    arena.window.announce("second", TENANT, KEYS[3:6], 60)
    assert arena.victims(1) == [6] and arena.victims(6) == [6, 7, 8, 9, 10, 11]
    assert arena.victims(7)[0] == 5
    assert arena.victims(7, sooner=0) == arena.victims(7)
    assert arena.victims(7, sooner=1) == [], "the second needs it sooner"
    for key in KEYS[6:]:
        arena.shelf.policy.hold(key.digest)
    assert set(arena.victims(3)) == {3, 4, 5}


def test_nothing_goes_where_it_would_not_help(arena: Arena) -> None:
    """Among what is held in between, no two neighbours can go."""
    for key in KEYS[::2]:
        arena.shelf.policy.hold(key.digest)
    assert arena.victims(2) == [] and arena.victims(1) == [1]


def test_what_was_in_vain_is_tried_again_when_something_came_free(arena: Arena) -> None:
    arena.window.announce("all", TENANT, KEYS, 60)
    assert arena.victims(2, sooner=0) == []
    arena.window.retire("all")
    assert arena.victims(2, sooner=0) == [0, 1]
    for key in KEYS:
        arena.shelf.policy.hold(key.digest)
    assert arena.victims(1) == [] and arena.victims(2) == []
    arena.shelf.policy.unhold(KEYS[4].digest)
    assert arena.victims(1) == [4] and arena.victims(2) == []
    arena.allocator.free(arena.occupants.start_of(KEYS[5]))
    assert arena.victims(2) == [4]
