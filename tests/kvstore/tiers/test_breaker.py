import errno
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from kvstore.tiers.breaker import Breaker
from tests.kvstore.media import Clock

PAUSE_S = 10.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(3, PAUSE_S, clock)


def fail(breaker: Breaker, times: int = 1, error: OSError | None = None) -> None:
    error = error or OSError(errno.EIO, "the disk")
    for _ in range(times):
        with pytest.raises(OSError) as caught, breaker.call():
            raise error
        assert caught.value is error


def succeed(breaker: Breaker) -> None:
    with breaker.call():
        pass


def assert_refused(breaker: Breaker) -> None:
    with pytest.raises(OSError) as caught, breaker.call():
        pytest.fail("the call was let through")
    assert caught.value.errno == errno.EHOSTDOWN


def test_it_opens_after_failures_in_a_row(breaker: Breaker) -> None:
    fail(breaker, 2)
    succeed(breaker)
    fail(breaker, 2)
    assert not breaker.is_open and breaker.open_for_s == 0
    fail(breaker)
    assert breaker.is_open and breaker.open_for_s == PAUSE_S
    assert_refused(breaker)


def test_its_error_says_what_failed_and_until_when(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 4
    with pytest.raises(OSError, match=r"the disk; next try in 6\.0 s"), breaker.call():
        pass


def test_a_trial_that_succeeds_closes_it(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += PAUSE_S
    assert breaker.is_open and breaker.open_for_s == 0
    succeed(breaker)
    assert not breaker.is_open
    fail(breaker, 2)
    assert not breaker.is_open, "failures are counted anew"


def test_a_trial_that_fails_opens_it_again(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += PAUSE_S
    fail(breaker)
    assert breaker.open_for_s == PAUSE_S
    assert_refused(breaker)


def test_while_one_call_tries_the_others_fail_at_once(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += PAUSE_S
    with breaker.call():
        assert_refused(breaker)
    succeed(breaker)


def test_a_trial_that_ends_in_a_bug_lets_the_next_one_try(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += PAUSE_S
    with pytest.raises(KeyError), breaker.call():
        raise KeyError
    clock.now += PAUSE_S
    succeed(breaker)
    assert not breaker.is_open


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError("gone"), OSError(errno.ENOSPC, "full"), OSError(errno.EROFS, "a replica")],
)
def test_an_answer_that_is_no_success_is_no_failure(breaker: Breaker, error: OSError) -> None:
    fail(breaker, 2)
    fail(breaker, error=error)
    fail(breaker, 2)
    assert not breaker.is_open


def test_what_began_before_it_opened_changes_nothing(breaker: Breaker) -> None:
    with breaker.call():
        fail(breaker, 3)
    assert breaker.is_open
    assert_refused(breaker)


def test_it_warns_once(breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fail(breaker, 3)
        for _ in range(3):
            clock.now += PAUSE_S
            fail(breaker)
    assert len(caplog.records) == 1 and "the disk" in caplog.text


def test_of_many_threads_one_tries(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += PAUSE_S
    together, passed = threading.Barrier(8), []

    def call(number: int) -> int:
        together.wait()
        try:
            with breaker.call():
                passed.append(number)
                together.wait()  # all others were refused by now
        except OSError as error:
            together.wait()
            return error.errno or 0
        return 0

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(call, range(8)))
    assert len(passed) == 1 and codes.count(errno.EHOSTDOWN) == 7
    assert not breaker.is_open
