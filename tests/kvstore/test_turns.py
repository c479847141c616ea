"""Work in turns: every item once, and others have the lock in between."""

import gc
import threading
import time
from collections.abc import Iterator

import pytest

from kvstore.turns import in_turns, turns


def test_every_item_is_worked_on_once_in_its_order_with_the_lock_held() -> None:
    lock, done = threading.Lock(), list[int]()

    def work(item: int) -> None:
        assert lock.locked()
        done.append(item)

    for _ in turns(lock, range(20_000), work):
        assert not lock.locked()
    assert done == list(range(20_000))


def test_who_waits_for_the_lock_has_it_long_before_the_end() -> None:
    """Work that would take seconds is under way; each of ten others gets the lock within it."""
    lock, got = threading.Lock(), list[int]()
    started, stopped = threading.Event(), threading.Event()

    def waits() -> None:
        started.wait(60)
        for i in range(10):
            with lock:
                got.append(i)
        stopped.set()

    def items() -> Iterator[int]:
        give_up = time.monotonic() + 60
        while not stopped.is_set() and time.monotonic() < give_up:
            time.sleep(0.0001)
            started.set()
            yield 0

    other = threading.Thread(target=waits)
    other.start()
    in_turns(lock, items(), bool)
    assert got == list(range(10))
    other.join(60)


def test_a_failure_gives_the_lock_back() -> None:
    lock = threading.Lock()
    with pytest.raises(ZeroDivisionError):
        in_turns(lock, [1, 0, 2], lambda n: 1 / n)
    assert not lock.locked()


def test_a_collection_of_garbage_waits_for_the_end_of_a_turn() -> None:
    lock, held, kept = threading.Lock(), list[bool](), list[list[int]]()
    thread = threading.get_ident()

    def collects(phase: str, _: dict[str, int]) -> None:
        if phase == "start" and threading.get_ident() == thread:
            held.append(lock.locked())

    gc.callbacks.append(collects)
    try:
        in_turns(lock, range(200_000), lambda n: kept.append([n]))
        gc.collect(0)
    finally:
        gc.callbacks.remove(collects)
    assert held and not any(held) and gc.isenabled()


def test_no_collection_begins_in_a_turn_that_waited_for_another() -> None:
    lock, was_on = threading.Lock(), list[bool]()
    holds, may_end = threading.Event(), threading.Event()

    def hold(_: int) -> None:
        holds.set()
        may_end.wait(60)

    first = threading.Thread(target=in_turns, args=(lock, [1], hold))
    second = threading.Thread(
        target=in_turns, args=(lock, range(50_000), lambda _: was_on.append(gc.isenabled()))
    )
    first.start()
    assert holds.wait(60)
    second.start()
    time.sleep(0.1)  # it waits for the lock
    may_end.set()
    first.join(60)
    second.join(60)
    assert len(was_on) == 50_000 and not any(was_on)
    assert gc.isenabled()
