"""Copies beyond their bound: who goes, and who stays."""

import pytest

from kvstore.copies import Copies
from kvstore.holds import Holds
from kvstore.tiers.base import Entry
from tests.kvstore.segments import TRUNK, chain_of, passage

SPECS = [chain_of(TRUNK, passage(n))[-1] for n in range(200)]
KEYS = [spec.key for spec in SPECS]


@pytest.fixture
def two_too_many() -> Copies:
    copies = Copies(198, Holds())
    for spec in SPECS:
        copies.add(Entry(spec, 1, 0.0))
    return copies


def test_the_least_recently_used_go(two_too_many: Copies) -> None:
    two_too_many.touch(KEYS[:1])
    assert two_too_many.excess() == KEYS[1:3]


def test_what_is_held_stays_and_is_not_looked_at(two_too_many: Copies) -> None:
    policy = two_too_many.shelf.policy
    for key in KEYS[:150]:
        policy.hold(key.digest)
    assert two_too_many.excess() == KEYS[150:152]
    for key in KEYS[:150]:
        policy.unhold(key.digest)
    assert two_too_many.excess() == KEYS[:2], "in the order of their uses"


def test_what_is_held_already_stays_when_it_comes() -> None:
    holds, key = Holds(), KEYS[0]
    copies = Copies(0, holds)
    holds.begin(key.digest)
    for _ in range(2):
        copies.add(Entry(SPECS[0], 1, 0.0))
        assert copies.excess() == []
        copies.discard(key)
    copies.add(Entry(SPECS[0], 1, 0.0))
    holds.end(key.digest)
    assert copies.excess() == [key]
    copies.discard(key)
    copies.add(Entry(SPECS[0], 1, 0.0))
    assert copies.excess() == [key], "nothing is left of the hold"


def test_children_go_before_their_parents(two_too_many: Copies) -> None:
    child = chain_of(TRUNK, passage(0), passage(1000))[-1]
    two_too_many.add(Entry(child, 1, 0.0))
    two_too_many.touch(KEYS[1:])
    assert two_too_many.excess() == [child.key, KEYS[0], KEYS[1]]
