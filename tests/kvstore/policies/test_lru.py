import pytest

from kvstore.policies import create_policy
from kvstore.shelf import Shelf
from kvstore.tiers.base import Entry
from tests.kvstore.segments import chain_of


def test_the_least_recent_goes_first_and_the_protected_stays() -> None:
    policy, path = create_policy("lru"), chain_of([1], [2], [3], [4])
    entries = [Entry(spec, 10, 0.0) for spec in path]
    for entry in entries:
        policy.on_insert(entry)
    policy.on_access(entries[0])
    keys = [entry.key for entry in entries]
    assert policy.victims(15, ()) == keys[1:3]
    assert policy.victims(15, {keys[1]}) == keys[2:4]
    assert policy.victims(1000, ()) == [*keys[1:], keys[0]]
    assert policy.victims(0, ()) == []
    policy.on_remove(entries[1])
    assert policy.victims(1, ()) == [keys[2]]


def test_children_go_before_their_parents() -> None:
    shelf = Shelf(create_policy("lru"))
    trunk, left, right = chain_of([1], [2], [3])[0], chain_of([1], [2])[1], chain_of([1], [3])[1]
    for spec in (trunk, left, right):
        shelf.add(Entry(spec, 10, 0.0))
    assert shelf.victims(20, ()) == [left.key, right.key]
    shelf.touch([left.key, trunk.key])
    assert shelf.victims(30, ()) == [right.key, left.key, trunk.key]


def test_nothing_is_named_when_all_of_it_would_not_do() -> None:
    shelf = Shelf(create_policy("lru"))
    shelf.add(Entry(chain_of([1])[0], 10, 0.0))
    assert shelf.victims(11, ()) == []


def test_an_unknown_policy_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'fifo', must be one of lru"):
        create_policy("fifo")  # type: ignore[arg-type]
