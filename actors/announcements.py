"""What a waiting request will need, told to the store while it waits (PCR; ALGORITHMS 4.2)."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Announcement:
    """Made at most once and taken back at most once, in this order, by whichever thread is first:
    one that has ended is never made. Both calls may block."""

    def __init__(self, make: Callable[[], None], retire: Callable[[], None]) -> None:
        self._make, self._retire = make, retire
        self._lock = threading.Lock()
        self._is_made = False
        self._has_ended = False

    def make(self) -> None:
        with self._lock:
            if not self._has_ended:
                self._is_made = True
                self._make()

    def end(self) -> None:
        """The request begins, or has gone. Idempotent; no call when there is nothing to retire."""
        with self._lock:
            if self._is_made and not self._has_ended:
                self._retire()
            self._has_ended = True

    @asynccontextmanager
    async def made(self, waits: bool) -> AsyncIterator[None]:
        """Made in the background when the request waits, and ended with the block at the latest."""
        if not waits:
            yield
            return
        making = asyncio.create_task(asyncio.to_thread(self.make))
        try:
            yield
        finally:
            await asyncio.to_thread(self.end)
            await asyncio.gather(making, return_exceptions=True)  # the request itself says why
