"""How much of the arena a tenant may pin and reserve while others are there."""

from hypothesis import given
from hypothesis import strategies as st

from kvstore.promises import NOBODY, Promises, holder_of
from kvstore.shares import IDLE_S, Shares
from tests.kvstore.segments import TRUNK, chain_of, passage

A, B, C = (bytes([n]) * 8 for n in range(3))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def promises_of(share: float = 0.25, clock: Clock | None = None) -> tuple[Shares, Promises]:
    """Of a hundred bytes."""
    shares = Shares(share, lambda: 100, clock or Clock())
    return shares, Promises(shares, 100)


def most(promises: Promises, tenant: bytes) -> int:
    """How much more it may hold."""
    return max(n for n in range(101) if not n or promises.may_hold(tenant, n))


def test_one_alone_may_hold_everything() -> None:
    _, promises = promises_of()
    assert most(promises, A) == 100
    promises.hold(A, 90)
    assert most(promises, A) == 10


def test_what_is_promised_to_others_is_not_lent() -> None:
    shares, promises = promises_of()
    shares.use(B)
    assert most(promises, A) == 75
    promises.hold(B, 10)
    assert most(promises, A) == 75, "of which nothing changes with what B takes of its share"
    promises.hold(B, 25)
    assert most(promises, A) == 65, "and what B has borrowed is not there"
    shares.use(C)
    assert most(promises, A) == 40
    promises.hold(A, 40)
    assert most(promises, A) == 0 and most(promises, B) == 0 and most(promises, C) == 25


def test_who_comes_late_gets_what_is_let_go() -> None:
    _, promises = promises_of()
    promises.hold(A, 100)
    assert most(promises, B) == 25, "within its share it may, once there is room"
    assert most(promises, A) == 0
    promises.let_go(A, 20)
    assert most(promises, A) == 0, "that is B's"
    promises.let_go(A, 30)
    assert most(promises, A) == 25


def test_who_is_idle_is_promised_nothing() -> None:
    clock = Clock()
    shares, promises = promises_of(clock=clock)
    shares.use(B)
    promises.hold(B, 10)
    assert most(promises, A) == 75
    clock.now = IDLE_S + 1
    assert most(promises, A) == 90, "but what it holds it holds"


def test_without_a_share_nothing_is_promised() -> None:
    shares, promises = promises_of(0.0)
    shares.use(B)
    assert most(promises, A) == 100


def test_the_prefix_of_all_is_nobodys() -> None:
    trunk, own = chain_of(TRUNK, passage(1))
    assert holder_of(trunk) == NOBODY and holder_of(own) == own.tenant
    shares, promises = promises_of()
    shares.use(B)
    promises.hold(NOBODY, 30)
    assert promises.may_hold(NOBODY, 70) and most(promises, A) == 45
    assert most(promises, B) == 45


STEPS = st.lists(st.tuples(st.sampled_from((A, B, C)), st.integers(1, 40), st.booleans()))


@given(STEPS, st.sampled_from((0.0, 0.2, 0.25, 0.5, 1.0)))
def test_the_share_of_every_active_one_can_always_be_reached(
    steps: list[tuple[bytes, int, bool]], share: float
) -> None:
    shares, promises = promises_of(share)
    for tenant in (A, B, C):
        shares.use(tenant)
    held = list[tuple[bytes, int]]()
    for tenant, nbytes, takes in steps:
        if takes and promises.may_hold(tenant, nbytes):
            promises.hold(tenant, nbytes)
            held.append((tenant, nbytes))
        elif not takes and held:
            promises.let_go(*held.pop(nbytes % len(held)))
        total = sum(n for _, n in held)
        missing = [max(0, shares.guaranteed_bytes - promises.bytes_of(t)) for t in (A, B, C)]
        assert total + sum(missing) <= 100
        assert all(promises.may_hold(t, m) for t, m in zip((A, B, C), missing, strict=True))
