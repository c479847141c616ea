"""How much time a request has left. Points in time never cross a process: clocks differ by node."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from actors.errors import ExpiredError
from cluster.ingress.config import IngressConfig

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    limit_s: float
    key: str
    """The setting that the limit is from."""
    what: str = "the request"
    """What has to be done by then."""
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    def left_s(self) -> float:
        """Seconds that are left. Raises ExpiredError when there are none."""
        left = self.limit_s - self.elapsed_s
        if left <= 0:
            raise self.expired()
        return left

    def expired(self, doing: str = "") -> ExpiredError:
        """Says which limit it was, and what went on meanwhile."""
        meanwhile = f"; meanwhile: {doing}" if doing else ""
        return ExpiredError(
            f"{self.what} took longer than {self.limit_s:g} s ({self.key}){meanwhile}"
        )

    async def bound(self, call: Awaitable[T], doing: str) -> T:
        """The call's result, or ExpiredError when the time is up, with the call cancelled. A call
        that ended itself for want of time had its limit from here."""
        limit = asyncio.timeout(self.limit_s - self.elapsed_s)
        try:
            async with limit:
                return await call
        except TimeoutError as error:
            if limit.expired():
                raise self.expired(doing) from error
            raise
        except ExpiredError as error:
            raise self.expired(str(error) or doing) from error


@dataclass(frozen=True, slots=True)
class Limits:
    """The deadlines of one request."""

    config: IngressConfig
    arrived: float = field(default_factory=time.monotonic)
    """When its first byte was there, on the monotonic clock."""

    def request(self) -> Deadline:
        limit_s = self.config.request_timeout_s
        return Deadline(limit_s, "ingress.request_timeout_s", started=self.arrived)

    def ingest(self) -> Deadline:
        limit_s = self.config.ingest_timeout_s
        return Deadline(limit_s, "ingress.ingest_timeout_s", started=self.arrived)

    def page(self) -> Deadline:
        """For the next page of a stream of them, from now on."""
        limit_s = self.config.ingest_timeout_s
        return Deadline(limit_s, "ingress.ingest_timeout_s", "the next page")

    def stream(self) -> Deadline:
        limit_s = self.config.stream_timeout_s
        return Deadline(limit_s, "ingress.stream_timeout_s", "the stream", self.arrived)

    def token(self) -> Deadline:
        """For the next token of a stream, from now on: its own limit, or the stream's, whichever
        ends first."""
        limit_s = self.config.token_timeout_s
        token = Deadline(limit_s, "ingress.token_timeout_s", "the next token")
        stream = self.stream()
        return token if limit_s < stream.limit_s - stream.elapsed_s else stream


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
