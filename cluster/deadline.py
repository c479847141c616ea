"""How much time a request has left. Points in time never cross a process: clocks differ by node."""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from actors.errors import ExpiredError

T = TypeVar("T")


class Deadline:
    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._started = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def left_s(self) -> float:
        """Seconds that are left. Raises ExpiredError when there are none."""
        left = self.limit_s - self.elapsed_s
        if left <= 0:
            raise ExpiredError(f"the request took longer than {self.limit_s:g} s")
        return left


async def within(call: Awaitable[T], limit_s: float, what: str) -> T:
    """The call's result, or ExpiredError after `limit_s`, with the call cancelled."""
    limit = asyncio.timeout(limit_s)
    try:
        async with limit:
            return await call
    except TimeoutError as error:
        if limit.expired():
            raise ExpiredError(f"{what} took longer than {limit_s:.1f} s") from error
        raise
