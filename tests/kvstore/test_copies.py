"""Copies beyond their bound: who goes, and how far one look goes."""

import pytest

from kvstore.copies import Copies
from kvstore.tiers.base import Entry
from kvstore.types import SegmentKey
from tests.kvstore.segments import TRUNK, chain_of, passage

SPECS = [chain_of(TRUNK, passage(n))[-1] for n in range(200)]
KEYS = [spec.key for spec in SPECS]


@pytest.fixture
def two_too_many() -> Copies:
    copies = Copies(198)
    for spec in SPECS:
        copies.add(Entry(spec, 1, 0.0))
    return copies


def test_the_least_recently_used_go(two_too_many: Copies) -> None:
    two_too_many.touch(KEYS[:1])
    assert two_too_many.excess(()) == KEYS[1:3]


def test_what_is_held_stays_and_counts_as_used_now(two_too_many: Copies) -> None:
    assert two_too_many.excess(KEYS[:2]) == KEYS[2:4]
    assert two_too_many.excess(()) == KEYS[2:4], "the held ones are last now"


def test_of_many_that_are_held_one_look_passes_a_few(two_too_many: Copies) -> None:
    looked: list[SegmentKey] = []

    class Held:
        def __contains__(self, key: object) -> bool:
            assert isinstance(key, SegmentKey)
            looked.append(key)
            return key in KEYS[:150]

    assert two_too_many.excess(Held()) == [] and len(looked) < 100
    assert two_too_many.excess(Held()) == []
    assert two_too_many.excess(Held()) == KEYS[150:152], "and the next goes on from there"
