import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kvstore.tiers.deadline import AbandonedError, Deadline

WAIT_S = 10.0


def test_a_call_in_time_gives_its_result_or_its_error() -> None:
    deadline = Deadline(WAIT_S, threads=1)
    assert deadline.run(lambda: 7) == 7
    for error in (OSError(5, "of the disk"), TimeoutError("of its own")):
        with pytest.raises(type(error)) as caught:
            deadline.run(lambda error=error: raise_(error))  # type: ignore[misc]
        assert caught.value is error
    assert deadline.run(lambda: 8) == 8


def test_a_hung_call_is_abandoned_and_its_late_result_closed() -> None:
    deadline = Deadline(0.1, threads=2)
    go_on, closed = threading.Event(), threading.Event()
    results: list[str | None] = []

    def late(result: str | None) -> None:
        results.append(result)
        closed.set()

    begin = time.monotonic()
    with pytest.raises(AbandonedError):
        deadline.run(lambda: go_on.wait(WAIT_S) and "late" or "", late)
    assert time.monotonic() - begin < WAIT_S / 2
    assert deadline.run(lambda: 7) == 7, "another thread still answers"
    go_on.set()
    assert closed.wait(WAIT_S) and results == ["late"]


def test_a_late_error_is_closed_too() -> None:
    deadline = Deadline(0.1, threads=1)
    go_on, closed = threading.Event(), threading.Event()

    def call() -> None:
        go_on.wait(WAIT_S)
        raise OSError(5, "late")

    with pytest.raises(AbandonedError):
        deadline.run(call, lambda _: closed.set())
    go_on.set()
    assert closed.wait(WAIT_S)


def test_without_a_thread_that_answers_every_call_fails_at_once_until_one_is_back() -> None:
    deadline = Deadline(1.0, threads=2)
    go_on = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        hung = [pool.submit(deadline.run, lambda: go_on.wait(WAIT_S)) for _ in range(2)]
        assert all(isinstance(each.exception(), AbandonedError) for each in hung)
    begin = time.monotonic()
    for _ in range(20):
        with pytest.raises(TimeoutError, match="2 of them hang"):
            deadline.run(lambda: 7)
    assert time.monotonic() - begin < 0.9
    go_on.set()
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        try:
            assert deadline.run(lambda: 7) == 7
            break
        except TimeoutError:
            time.sleep(0.01)
    else:
        pytest.fail("the places of hung calls are never free again")


def test_calls_beyond_the_threads_wait_for_their_turn() -> None:
    deadline = Deadline(WAIT_S, threads=2)
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(deadline.run, lambda: time.sleep(0.01)) for _ in range(16)]
        assert [call.result() for call in calls] == [None] * 16


def raise_(error: BaseException) -> None:
    raise error
