"""Whose segments go first, by what each tenant has and when it used something."""

from hypothesis import given
from hypothesis import strategies as st

from kvstore.shares import IDLE_S, Shares, Tenants

A, B, C = (bytes([n]) * 8 for n in range(3))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def shares_of(clock: Clock | None = None, share: float = 0.25, **taken: int) -> Shares:
    """Of a tier of a hundred bytes; who takes something is active."""
    shares = Shares(share, lambda: 100, clock or Clock())
    for tenant, nbytes in zip((A, B, C), taken.values(), strict=False):
        shares.take(tenant, nbytes)
        shares.use(tenant)
    return shares


def allowed(turns: list[Tenants]) -> list[set[bytes]]:
    return [{tenant for tenant in (A, B, C) if turn(tenant)} for turn in turns]


def test_one_alone_may_have_all_of_it() -> None:
    assert allowed(shares_of(a=100).turns(A, 50)) == [{A, B, C}]


def test_who_is_within_its_share_takes_from_who_is_beyond_it() -> None:
    shares = shares_of(a=75, b=10, c=15)
    assert allowed(shares.turns(B, 10)) == [{A}, {A, B, C}]


def test_who_is_beyond_its_share_takes_from_itself_and_its_like() -> None:
    assert allowed(shares_of(a=75, b=10, c=15).turns(A, 10)) == [{A}]
    assert allowed(shares_of(a=45, b=40, c=15).turns(A, 10)) == [{A, B}]
    assert allowed(shares_of(a=45, b=40, c=15).turns(C, 20)) == [{A, B, C}], "it would be"


def test_where_many_are_busy_the_shares_are_equal_parts() -> None:
    shares = shares_of(share=0.5, a=34, b=33, c=33)
    assert shares.guaranteed_bytes == 33
    assert allowed(shares.turns(B, 0)) == [{A}, {A, B, C}]


def test_what_an_idle_tenant_has_is_anybodys() -> None:
    clock = Clock()
    shares = shares_of(clock, a=80, b=20)
    clock.now = IDLE_S / 2
    assert allowed(shares.turns(A, 1)) == [{A, C}], "the third has nothing, and is not there"
    clock.now = IDLE_S + 1
    shares.use(A)
    assert allowed(shares.turns(A, 1)) == [{A, B, C}], "nobody is protected from it"
    shares.use(B)
    assert allowed(shares.turns(A, 1)) == [{A, C}], "it is back"


def test_a_share_of_nothing_protects_nobody() -> None:
    assert allowed(shares_of(share=0.0, a=50, b=50).turns(A, 1)) == [{A, B, C}]


def test_the_largest_are_shown_and_no_more() -> None:
    shares = Shares(0.25, lambda: 100)
    for n in range(1, 50):
        shares.take(n.to_bytes(8, "big"), n)
    found = shares.largest()
    assert len(found) == 16 and found[0] == ((49).to_bytes(8, "big").hex(), 49)


@given(st.lists(st.tuples(st.sampled_from((A, B, C)), st.integers(1, 9), st.booleans())))
def test_the_counts_are_those_of_what_was_taken(steps: list[tuple[bytes, int, bool]]) -> None:
    shares, held = Shares(0.25, lambda: 100), list[tuple[bytes, int]]()
    for tenant, nbytes, takes in steps:
        if takes:
            shares.take(tenant, nbytes)
            held.append((tenant, nbytes))
        elif held:
            shares.give_back(*held.pop(nbytes % len(held)))
        assert shares.check("tier", held) == []
    shares.take(A, 1)
    assert shares.check("tier", held)
