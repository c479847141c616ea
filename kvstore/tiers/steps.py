"""Long work on a medium that says after each step that it gets on, and can be ended there."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

Step = Callable[[], None]
"""Called before each step of the work; what it raises ends the work."""


def no_step() -> None: ...


def stepped(items: Iterable[T], step: Step) -> Iterator[T]:
    for item in items:
        step()
        yield item
