"""Threads that one caller may take at a time, of a group that many share."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from kvstore.errors import DeadlineError


class Turns:
    """Thread-safe."""

    def __init__(self, max_each: int) -> None:
        self._max_each = max_each
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()

    @contextmanager
    def of(self, caller: str) -> Iterator[None]:
        """For a call of this caller. Raises DeadlineError at once when it has as many already: it
        does without what it would wait for."""
        with self._lock:
            if self._running[caller] >= self._max_each:
                raise DeadlineError(f"{caller} has {self._max_each} calls that wait already")
            self._running[caller] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[caller] -= 1
                if not self._running[caller]:
                    del self._running[caller]
