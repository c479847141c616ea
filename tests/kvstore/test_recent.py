from kvstore import recent
from kvstore.recent import RecentRemovals
from kvstore.types import Lineage
from tests.kvstore.segments import chain_of, passage

FIRST, SECOND = chain_of(passage(1), passage(2))
(ALONE,) = chain_of(passage(2))
R, S = b"r" * 16, b"s" * 16


def test_it_refuses_what_left_before_and_takes_what_left_after() -> None:
    removals = RecentRemovals()
    assert not removals.refuses(FIRST, Lineage())
    removals.add(R, FIRST.tag)
    assert removals.refuses(FIRST, Lineage()) and not removals.of(FIRST)
    removals.made(R)
    for spec in (FIRST, SECOND):
        assert removals.of(spec) == {R}
        assert removals.refuses(spec, Lineage())
        assert not removals.refuses(spec, Lineage(frozenset([R])))
    assert not removals.refuses(ALONE, Lineage())
    removals.add(S, FIRST.tag)
    assert removals.refuses(FIRST, Lineage(frozenset([R])))
    assert removals.refuses(SECOND, Lineage(frozenset([R])))


def test_it_remembers_longer_than_calls_take_and_not_for_ever() -> None:
    now = [0.0]
    removals = RecentRemovals(lambda: now[0])
    removals.add(R, FIRST.tag)
    now[0] = 599.0
    assert removals.refuses(FIRST, Lineage())
    now[0] = 600.0
    assert not removals.refuses(FIRST, Lineage())


def test_beyond_its_bound_it_refuses_everything_for_as_long() -> None:
    now = [0.0]
    removals = RecentRemovals(lambda: now[0])
    for number in range(recent._MAX + 1):
        removals.add(R, number.to_bytes(8, "little"))
    now[0] = 599.0
    assert removals.refuses(FIRST, Lineage())
    now[0] = 600.0
    assert not removals.refuses(FIRST, Lineage())
