"""A thread outlives every failure of its steps; each is logged once per kind, and counted."""

import logging
import struct
import threading
from collections.abc import Iterator

import pytest

from kvstore.supervised import Supervisor
from tests.kvstore.waiting import eventually

FAILURES = (MemoryError, struct.error, KeyError, AssertionError)


def test_a_failing_step_is_counted_and_the_next_one_follows() -> None:
    supervisor, done = Supervisor(), list[int]()
    items: Iterator[type[Exception] | None] = iter((*FAILURES, None))

    def step() -> bool:
        failure = next(items, None)
        if failure is not None:
            raise failure("an item that fails")
        done.append(1)
        return len(done) < 3

    thread = supervisor.start("worker", step)
    thread.join(10)
    assert len(done) == 3
    assert supervisor.stats()["worker"].failures == len(FAILURES)


def test_each_kind_of_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    supervisor, left = Supervisor(), iter([KeyError("k")] * 5 + [MemoryError()] * 2)

    def step() -> bool:
        if (failure := next(left, None)) is not None:
            raise failure
        return False

    with caplog.at_level(logging.ERROR):
        supervisor.start("worker", step).join(10)
    assert supervisor.stats()["worker"].failures == 7
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [
        KeyError,
        MemoryError,
    ]
    assert all("worker" in record.message for record in caplog.records)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_is_gone_and_one_that_is_done_is_not() -> None:
    supervisor, go_on = Supervisor(), threading.Event()

    def die() -> None:
        raise GeneratorExit

    supervisor.start("dies", die).join(10)
    supervisor.start("is done", lambda: False).join(10)
    stays = supervisor.start("stays", lambda: not go_on.wait(30))
    assert supervisor.gone() == ["dies"]
    assert not supervisor.stats()["dies"].up
    go_on.set()
    stays.join(10)
    assert supervisor.gone() == ["dies"]


def test_work_at_intervals_goes_on_after_failures_until_it_is_stopped() -> None:
    supervisor, rounds = Supervisor(), list[int]()

    def work() -> None:
        rounds.append(1)
        if len(rounds) % 2:
            raise AssertionError("every other round fails")

    thread = supervisor.every(0.001, "rounds", work)
    assert eventually(lambda: len(rounds) >= 4, 10)
    thread.stop()
    thread.join(10)
    assert not thread.runs and supervisor.gone() == []
    assert supervisor.stats()["rounds"].failures >= 2


def test_stopping_does_not_wait_for_an_interval() -> None:
    thread = Supervisor().every(3600, "rare", lambda: None)
    thread.stop()
    thread.join(10)
    assert not thread.runs


def test_a_step_that_always_fails_pauses(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor()

    def step() -> bool:
        raise KeyError("always")

    thread = supervisor.start("worker", step)
    assert eventually(lambda: supervisor.stats()["worker"].failures >= 3, 10)
    assert thread._pause_s >= 0.04
    thread.stop()
    thread.join(10)
    assert supervisor.stats()["worker"].failures < 100
