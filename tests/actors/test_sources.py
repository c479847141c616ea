"""Whom to ask for what of a chain, and where its claims are kept."""

from actors.sources import Source, runs, sources
from kvstore.membership import Member, Membership
from tests.kvstore.segments import TRUNK, chain_of, passage


def test_a_chain_behind_the_configured_prefix_is_one_run() -> None:
    path = chain_of(TRUNK, passage(1), passage(2))
    assert runs(path) == [path] and runs(path[1:]) == [path[1:]] and runs(()) == []


def test_a_prefix_of_a_clients_own_is_a_run_of_its_own() -> None:
    path = chain_of(TRUNK, passage(1), passage(2), own_prefix=True)
    assert runs(path) == [path[:1], path[1:]]
    assert runs(path[:1]) == [path[:1]] and runs(path[2:]) == [path[2:]]


def membership(copies: int = 1, **before: tuple[str, ...]) -> Membership:
    members = tuple(Member(name, name, 100) for name in "abc")
    former = tuple(Member(name, name, 100) for name in before.get("before", ()))
    return Membership(1, members, copies, former)


def test_a_chain_is_asked_of_its_first_owner_unless_that_is_this_node() -> None:
    path, now = chain_of(TRUNK, passage(1)), membership()
    (home,) = now.owners(path[1].key.placement)
    (other,) = {"a", "b", "c"} - {home, "a" if home != "a" else "b"}
    assert sources([path], now, other) == {path: Source(home, (), (path,), True)}
    assert sources([path], now, home) == {}
    assert sources([path[1:]], now, other) == {path[1:]: Source(home, (), (path[1:],), True)}


def test_other_owners_and_former_ones_may_have_it_too() -> None:
    path = chain_of(TRUNK, passage(1))[1:]
    first, second = membership(copies=2).owners(path[0].key.placement)
    (third,) = {"a", "b", "c"} - {first, second}
    assert sources([path], membership(copies=2), third)[path].others == (second,)
    assert sources([path], membership(copies=2), first)[path] == Source(
        None, (second,), (path,), True
    )
    moving = membership(before=(third,))
    assert sources([path], moving, first)[path] == Source(None, (third,), (path,), True)


def test_a_clients_own_prefix_is_asked_of_its_owner_and_claimed_with_its_chain() -> None:
    now = membership()
    paths = [chain_of([t] * 8, passage(1), passage(2), own_prefix=True) for t in range(40)]
    path = next(p for p in paths if now.owners(p[0].key.placement) != now.owners(p[1].tag))
    (of_prefix,), (home,) = now.owners(path[0].key.placement), now.owners(path[1].tag)
    (third,) = {"a", "b", "c"} - {of_prefix, home}
    prefix, rest = path[:1], path[1:]
    assert sources([path], now, third) == {
        path: Source(home, (), (path, rest), True),
        prefix: Source(of_prefix, (), (prefix,), False),
    }
    assert sources([path], now, home) == {prefix: Source(of_prefix, (), (prefix,), False)}
    assert sources([path], now, of_prefix) == {path: Source(home, (), (path, rest), True)}
    assert sources([prefix, path], now, third)[prefix].claims, "asked for by itself"
