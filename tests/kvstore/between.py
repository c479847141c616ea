"""What others do between two turns of a call (see `kvstore.turns`)."""

import threading
import time
from collections.abc import Callable

import pytest

from kvstore import turns


class Between:
    """Does something once, before the turn of that number, of this thread. Every item has a turn of
    its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sleep = time.sleep
        monkeypatch.setattr(turns, "_TURN_S", 0.0)
        monkeypatch.setattr("kvstore.turns.time.sleep", self)
        self._thread = threading.current_thread()
        self._do: Callable[[], object] | None = None
        self._turns_left = 0

    def arm(self, turn: int, do: Callable[[], object]) -> None:
        self._do, self._turns_left = do, turn

    def disarm(self) -> bool:
        """Whether it was done."""
        do, self._do = self._do, None
        return do is None

    def __call__(self, seconds: float) -> None:
        if threading.current_thread() is not self._thread:
            return self._sleep(seconds)
        if self._do is None:
            return None
        if self._turns_left > 0:
            self._turns_left -= 1
        else:
            do, self._do = self._do, None
            do()
        return None
