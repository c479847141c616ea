"""What waits for the generator's engine thread: requests, and other work."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from actors.errors import ExpiredError
from actors.messages import GenerateChunk, GenerateRequest

Emit = Callable[[GenerateChunk | Exception], object]
"""Called on the engine thread: chunks, the last with a finish_reason, or one exception."""


class CancelledError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(slots=True)
class Job:
    request: GenerateRequest
    emit: Emit
    begin: Callable[[], None] = lambda: None
    """Called on the engine thread when the job leaves the queue, whatever comes of it."""
    submitted: float = field(default_factory=time.monotonic)
    cancelled: bool = False
    ttft_s: float = 0.0
    unsent: str = ""
    """Text that waits for its piece of the stream."""
    sent_at: float = 0.0
    """When the last piece left, on the monotonic clock."""

    @property
    def deadline(self) -> float:
        return self.submitted + self.request.timeout_s

    def check(self, doing: str) -> None:
        """Raises CancelledError, or ExpiredError with what went on meanwhile."""
        if self.cancelled:
            raise CancelledError
        if time.monotonic() > self.deadline:
            raise ExpiredError(f"the request's time was up while {doing}")


@dataclass(slots=True)
class Aside:
    """Work of the engine thread that is no request."""

    work: Callable[[], object]
    done: Future[Any]

    def run(self) -> None:
        if self.done.set_running_or_notify_cancel():
            try:
                self.done.set_result(self.work())
            except Exception as error:  # who waits for it is told, the thread goes on
                self.done.set_exception(error)
