import pytest

from kvstore import tombstones
from kvstore.tombstones import Tombstones
from tests.kvstore.segments import TRUNK, chain_of, passage

HEAD, PARENT, CHILD, LEAF = chain_of(TRUNK, passage(1), passage(2), passage(3))
OTHER = chain_of(TRUNK, passage(4))[1]


def test_a_tag_dooms_the_passage_and_what_follows_it() -> None:
    stones = Tombstones()
    assert not stones and not stones.dooms(PARENT)
    stones.add([PARENT.tag], [])
    assert stones and len(stones) == 1
    assert [stones.dooms(spec) for spec in (HEAD, PARENT, CHILD, LEAF, OTHER)] == [
        False, True, True, True, False,
    ]  # fmt: skip
    assert stones.dooms_key(LEAF.key) and not stones.dooms_key(OTHER.key)


def test_a_tag_dooms_what_follows_it_whatever_was_seen_of_the_chain() -> None:
    stones = Tombstones()
    version = stones.add([PARENT.tag], [])
    assert stones.dooms(LEAF) and not stones.dooms(HEAD) and not stones.dooms(OTHER)
    stones.lift(version)
    stones.forget(PARENT.tag)
    assert not stones.dooms(LEAF) and not stones._marks


def test_keys_doom_what_follows_though_their_objects_are_gone() -> None:
    stones = Tombstones()
    stones.add([], [PARENT.key])
    assert stones.dooms(CHILD) and stones.dooms(LEAF) and not stones.dooms(OTHER)


def test_lifting_ends_those_of_a_version_and_before() -> None:
    stones = Tombstones()
    first, second = stones.add([PARENT.tag], []), stones.add([OTHER.tag], [OTHER.key])
    assert stones.dooms(PARENT) and stones.dooms(CHILD) and stones.dooms(OTHER)
    stones.lift(first)
    assert stones and not stones.dooms(PARENT) and not stones.dooms(CHILD) and stones.dooms(OTHER)
    stones.lift(second)
    assert not stones and not stones.dooms(OTHER) and len(stones) == 0


def test_what_is_removed_again_stays_removed_until_the_later_version_is_lifted() -> None:
    stones = Tombstones()
    first = stones.add([PARENT.tag], [])
    stones.add([PARENT.tag], [])
    stones.lift(first)
    assert stones.dooms(PARENT)


def test_beyond_the_bound_everything_is_doomed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tombstones, "_MAX", 2)
    stones = Tombstones()
    version = stones.add([bytes([i]) * 8 for i in range(3)], [])
    assert stones.dooms(OTHER) and stones.dooms_key(OTHER.key) and len(stones) == 1
    stones.lift(version)
    assert not stones.dooms(OTHER)


def test_a_removal_that_is_still_told_of_may_not_be_lifted() -> None:
    stones = Tombstones()
    first = stones.begin()
    second = stones.add([OTHER.tag], [])
    stones.doom(first, digests=(PARENT.key.digest,))
    assert stones.complete == 0 and stones.dooms(CHILD)
    stones.end(first)
    assert stones.complete == second


def test_what_was_lifted_is_forgotten_and_nothing_else() -> None:
    stones = Tombstones()
    first = stones.add([PARENT.tag], [LEAF.key])
    stones.add([OTHER.tag], [])
    stones.lift(first)
    for name in (*stones.tags(), *stones.digests()):
        stones.forget(name)
    assert list(stones.tags()) == [OTHER.tag] and not stones.digests()
