from collections.abc import Sequence

from kvstore.families import Family
from kvstore.policies import create_policy
from kvstore.shelf import Shelf
from kvstore.tiers.base import Entry
from kvstore.types import SegmentSpec
from tests.kvstore.segments import TRUNK, chain_of, passage

HEAD, PARENT, CHILD, LEAF = chain_of(TRUNK, passage(1), passage(2), passage(3))
OTHER = chain_of(TRUNK, passage(4))[1]


def shelf_of(*specs: SegmentSpec) -> Shelf:
    shelf = Shelf(create_policy("lru"))
    for spec in specs:
        shelf.add(Entry(spec, spec.layout.nbytes, 0.0))
    return shelf


def walked(family: Family, *shelves: Shelf) -> Sequence[bytes]:
    taken: list[bytes] = []
    for _ in family.walk(shelves, taken.append):
        pass
    return taken


def test_parents_are_taken_before_their_children_whatever_shelf_they_are_on() -> None:
    family = Family([PARENT.tag])
    taken = walked(family, shelf_of(HEAD, PARENT, LEAF, OTHER), shelf_of(CHILD, OTHER))
    assert taken == [spec.key.digest for spec in (PARENT, CHILD, LEAF)]
    assert family.keys == {PARENT.key, CHILD.key, LEAF.key} and family.is_walked


def test_what_was_only_told_of_is_walked_too() -> None:
    family, shelf = Family([PARENT.tag]), shelf_of(HEAD, PARENT, OTHER, LEAF)
    assert len(walked(family, shelf)) == 1
    assert family.has(CHILD) and not family.has(OTHER) and not family.is_walked
    assert walked(family, shelf) == [PARENT.key.digest, CHILD.key.digest, LEAF.key.digest][1:]


def test_it_begins_behind_digests_that_are_nowhere() -> None:
    family = Family([], [PARENT.key.digest])
    assert walked(family, shelf_of(HEAD, CHILD, LEAF))[1:] == [CHILD.key.digest, LEAF.key.digest]
    assert family.keys == {CHILD.key, LEAF.key}
