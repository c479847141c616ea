from dataclasses import replace

from kvstore.policies import create_policy
from kvstore.shares import everyone
from kvstore.shelf import Shelf
from kvstore.tiers.base import Entry
from tests.kvstore.segments import chain_of


def test_children_go_before_their_parents() -> None:
    shelf = Shelf(create_policy("lru"))
    trunk, left, right = chain_of([1], [2], [3])[0], chain_of([1], [2])[1], chain_of([1], [3])[1]
    for spec in (trunk, left, right):
        shelf.add(Entry(spec, 10, 0.0))
    assert shelf.victims(20, {}) == [left.key, right.key]
    shelf.touch([left.key, trunk.key])
    assert shelf.victims(30, {}) == [right.key, left.key, trunk.key]


def test_nothing_is_named_when_all_of_it_would_not_do() -> None:
    shelf = Shelf(create_policy("lru"))
    shelf.add(Entry(chain_of([1])[0], 10, 0.0))
    assert shelf.victims(11, {}) == []


def test_what_is_needed_is_given_up_only_when_nothing_else_does() -> None:
    specs = [chain_of([1], [i])[1] for i in (2, 3, 4)]
    first, second, third = (spec.key for spec in specs)
    ahead, blind = Shelf(create_policy("lookahead_lru")), Shelf(create_policy("lru"))
    for spec in specs:
        ahead.add(Entry(spec, 10, 0.0))
        blind.add(Entry(spec, 10, 0.0))
    needed = {first: 0}
    assert ahead.victims(10, needed) == [second]
    for spec in specs[1:]:
        ahead.policy.hold(spec.key.digest)
    assert ahead.victims(10, needed) == [first] and ahead.victims(20, needed) == []
    for spec in specs[1:]:
        ahead.policy.unhold(spec.key.digest)
    assert ahead.victims(30, needed) == [second, third, first]
    assert blind.victims(10, needed) == [first]


def test_a_family_is_all_that_follows_each_behind_its_own() -> None:
    shelf = Shelf(create_policy("lru"))
    trunk, left, leaf = chain_of([1], [2], [3])
    right = chain_of([1], [4])[1]
    for spec in (trunk, left, leaf, right):
        shelf.add(Entry(spec, 10, 0.0))
    family = shelf.family(trunk.key, 4)
    assert family is not None and set(family) == {s.key for s in (trunk, left, leaf, right)}
    assert family[-1] == trunk.key and family.index(leaf.key) < family.index(left.key)
    assert shelf.family(left.key, 4) == [leaf.key, left.key]
    assert shelf.family(trunk.key, 3) is None


def test_the_next_turn_comes_when_the_first_does_not_suffice() -> None:
    shelf, specs = Shelf(create_policy("lru")), [chain_of([1], [i])[1] for i in (2, 3)]
    mine, other = (replace(spec, tenant=bytes([i]) * 8) for i, spec in enumerate(specs))
    for spec in (mine, other):
        shelf.add(Entry(spec, 10, 0.0))
    first = (lambda tenant: tenant == other.tenant, everyone)
    assert shelf.victims(10, {}, first) == [other.key]
    assert shelf.victims(20, {}, first) == [mine.key, other.key]
    assert shelf.victims(20, {}, first[:1]) == []
