import pytest

from kvstore.holds import Holds
from kvstore.policies import create_policy


def test_an_order_hears_of_the_first_reason_and_of_the_end_of_the_last() -> None:
    holds, policy = Holds(), create_policy("lru")
    holds.follow(policy)
    holds.begin(b"a")
    holds.begin(b"a")
    assert policy.is_held(b"a") and b"a" in holds
    holds.end(b"a")
    assert policy.is_held(b"a") and holds.num_reasons(b"a") == 1
    holds.end(b"a")
    assert not policy.is_held(b"a") and b"a" not in holds and not holds.digests()


def test_what_nobody_holds_cannot_be_let_go() -> None:
    with pytest.raises(KeyError):
        Holds().end(b"a")


def test_check_reports_a_hold_too_many() -> None:
    holds = Holds()
    holds.begin(b"a")
    assert holds.digests()
