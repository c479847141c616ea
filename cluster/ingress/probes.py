"""What probes ask, asked once for all of them: however many there are, and however often."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """One call for all who ask while it runs, and for `fresh_s` from its start on. Runs on one
    event loop."""

    def __init__(self, call: Callable[[], Coroutine[Any, Any, T]], fresh_s: float = 0.0) -> None:
        self._call, self._fresh_s = call, fresh_s
        self._running: asyncio.Task[T] | None = None
        self._started = 0.0

    def get(self) -> Awaitable[T]:
        """The result. Who is cancelled takes nothing from the others."""
        now = time.monotonic()
        running = self._running
        if running is None or (running.done() and now - self._started >= self._fresh_s):
            running = self._running = asyncio.create_task(self._call())
            self._started = now
        return asyncio.shield(running)
