"""Long work on what the metadata lock guards, in turns that others come between.

What is looked at in one turn may have changed before the next: the work on an item begins with
whether the item is still there.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

from kvstore.garbage import uninterrupted

T = TypeVar("T")

_TURN_S = 0.001
"""How long the lock is held at a time."""
_PAUSE_S = 0.0005
"""Between two turns. A lock is unfair: who gives it back and asks again at once has it before
those who wait have woken up."""


def turns(lock: threading.Lock, items: Iterable[T], work: Callable[[T], object]) -> Iterator[None]:
    """Does the work for each item with the lock held; yields without it after each turn."""
    rest = iter(items)
    while _turn(lock, rest, work):
        yield
        time.sleep(_PAUSE_S)
    yield


def in_turns(lock: threading.Lock, items: Iterable[T], work: Callable[[T], object]) -> None:
    """Does the work for each item with the lock held, and lets others have it in between."""
    for _ in turns(lock, items, work):
        pass


def at_once(steps: Generator[None, None, T]) -> T:
    """What comes of all the steps, in the hold of the lock that the caller has."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value


def _turn(lock: threading.Lock, rest: Iterator[T], work: Callable[[T], object]) -> bool:
    """Whether there may be more."""
    with uninterrupted(lock):
        end = time.monotonic() + _TURN_S
        for item in rest:
            work(item)
            if time.monotonic() >= end:
                return True
    return False
