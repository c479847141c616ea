from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

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
    assert set(family.keys) == {PARENT.key, CHILD.key, LEAF.key} and family.is_walked


def test_what_was_only_told_of_is_walked_too() -> None:
    family, shelf = Family([], [PARENT.key.digest]), shelf_of(HEAD, OTHER, LEAF)
    assert walked(family, shelf) == [PARENT.key.digest]
    assert family.has(CHILD) and not family.has(OTHER) and not family.is_walked
    assert walked(family, shelf) == [CHILD.key.digest, LEAF.key.digest]


def test_it_begins_behind_digests_that_are_nowhere() -> None:
    family = Family([], [PARENT.key.digest])
    assert walked(family, shelf_of(HEAD, CHILD, LEAF))[1:] == [CHILD.key.digest, LEAF.key.digest]
    assert set(family.keys) == {CHILD.key, LEAF.key}


def test_what_follows_a_passage_that_is_not_stored_is_taken() -> None:
    family = Family([PARENT.tag])
    taken = walked(family, shelf_of(HEAD, OTHER, LEAF), shelf_of(HEAD, OTHER, CHILD, LEAF))
    assert taken[0] == CHILD.key.digest or taken[0] == LEAF.key.digest
    assert set(family.keys) == {CHILD.key, LEAF.key} and family.is_walked
    assert not Family([PARENT.tag]).has(OTHER) and not Family([PARENT.tag]).has(HEAD)


def test_what_is_stored_behind_a_hole_is_taken() -> None:
    family = Family([PARENT.tag])
    assert walked(family, shelf_of(HEAD, PARENT, LEAF, OTHER))[0] == PARENT.key.digest
    assert set(family.keys) == {PARENT.key, LEAF.key}


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans())))
def test_gaps_are_where_a_parent_is_missing(steps: list[tuple[int, bool]]) -> None:
    shelf, chain = Shelf(create_policy("lru")), (HEAD, PARENT, CHILD, LEAF)
    for number, comes in steps:
        spec = chain[number]
        if comes and spec.key not in shelf:
            shelf.add(Entry(spec, spec.layout.nbytes, 0.0))
        elif not comes and spec.key in shelf:
            shelf.remove(spec.key)
        here = {one.key.digest for one in chain if one.key in shelf}
        followed = {one.parent for one in chain if one.key in shelf}
        assert set(shelf.gaps()) == followed - here
        assert not [p for entry in shelf.entries() for p in shelf.problems_of(entry)]
