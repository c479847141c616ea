"""Signals while a cluster is up, and what is raised when."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from cluster import interrupts
from cluster.interrupts import Hurry, Interrupts


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Interrupts]:
    monkeypatch.setattr(interrupts, "AGAIN_S", 0.2)
    alarm = signal.getitimer(signal.ITIMER_REAL)
    handlers = {
        number: signal.getsignal(number) for number in (*interrupts.SIGNALS, signal.SIGALRM)
    }
    subject = Interrupts()
    subject.install()
    yield subject
    subject.stopping()
    subject.restore()
    assert handlers == {number: signal.getsignal(number) for number in handlers}
    signal.setitimer(signal.ITIMER_REAL, *alarm)


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.05)


def test_one_signal_unwinds_and_a_second_hurries(installed: Interrupts) -> None:
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
    installed.stopping()
    with pytest.raises(Hurry):
        send(signal.SIGINT)
    send(signal.SIGINT)


def test_a_termination_has_the_shells_exit_status(installed: Interrupts) -> None:
    with pytest.raises(SystemExit) as caught:
        send(signal.SIGTERM)
    assert caught.value.code == 128 + signal.SIGTERM


def test_what_got_lost_is_raised_again(installed: Interrupts) -> None:
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        time.sleep(5)
    with pytest.raises(KeyboardInterrupt):
        installed.raise_if_lost()


def test_nothing_is_raised_while_sweeping(installed: Interrupts) -> None:
    installed.sweeping()
    for number in interrupts.SIGNALS:
        send(number)
