from kvstore.policies import create_policy
from kvstore.shelf import Shelf
from kvstore.tiers.base import Entry
from tests.kvstore.segments import chain_of


def test_children_go_before_their_parents() -> None:
    shelf = Shelf(create_policy("lru"))
    trunk, left, right = chain_of([1], [2], [3])[0], chain_of([1], [2])[1], chain_of([1], [3])[1]
    for spec in (trunk, left, right):
        shelf.add(Entry(spec, 10, 0.0))
    assert shelf.victims(20, {}, ()) == [left.key, right.key]
    shelf.touch([left.key, trunk.key])
    assert shelf.victims(30, {}, ()) == [right.key, left.key, trunk.key]


def test_nothing_is_named_when_all_of_it_would_not_do() -> None:
    shelf = Shelf(create_policy("lru"))
    shelf.add(Entry(chain_of([1])[0], 10, 0.0))
    assert shelf.victims(11, {}, ()) == []


def test_what_is_needed_is_given_up_only_when_nothing_else_does() -> None:
    specs = [chain_of([1], [i])[1] for i in (2, 3, 4)]
    first, second, third = (spec.key for spec in specs)
    ahead, blind = Shelf(create_policy("lookahead_lru")), Shelf(create_policy("lru"))
    for spec in specs:
        ahead.add(Entry(spec, 10, 0.0))
        blind.add(Entry(spec, 10, 0.0))
    needed = {first: 0}
    assert ahead.victims(10, needed, ()) == [second]
    assert ahead.victims(10, needed, {second, third}, ()) == [second], "before the first is touched"
    assert ahead.victims(30, needed, ()) == [second, third, first]
    assert blind.victims(10, needed, ()) == [first]
