"""A bounded queue whose items can leave before their turn: what was cancelled takes no place."""

import threading
from collections import deque
from typing import Generic, TypeVar

from actors.errors import OverloadedError, UnavailableError

T = TypeVar("T")


class WaitingQueue(Generic[T]):
    """First come, first served. Thread-safe. Items are told apart by identity."""

    def __init__(self, max_items: int, name: str) -> None:
        """`name` is for the messages of errors."""
        self._max_items, self._name = max_items, name
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Raises OverloadedError when it is full, UnavailableError when it was closed."""
        with self._changed:
            if self._closed:
                raise UnavailableError(f"{self._name} was closed")
            if len(self._items) >= self._max_items:
                raise OverloadedError(self._name)
            self._items.append(item)
            self._changed.notify()

    def get(self, block: bool) -> T | None:
        """The next item. None when there is none, or with `block` when the queue was closed."""
        with self._changed:
            if block:
                self._changed.wait_for(lambda: self._items or self._closed)
            return self._items.popleft() if self._items else None

    def discard(self, item: T) -> bool:
        """Take an item out of its place; whether it was still there."""
        with self._changed:
            for i, waiting in enumerate(self._items):
                if waiting is item:
                    del self._items[i]
                    return True
        return False

    def close(self) -> list[T]:
        """Nothing is taken any more; what was waiting. Idempotent."""
        with self._changed:
            self._closed = True
            left = list(self._items)
            self._items.clear()
            self._changed.notify_all()
        return left
