"""A breaker: what fails again and again is left alone for a while, and costs nobody a wait."""

import errno
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

_ANSWERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""What only a medium that works says: it still reads."""


class Breaker:
    """Closed, calls pass. After `failures` in a row it is open for `pause_s`, and calls fail at
    once; then one call may try: it closes the breaker or opens it again. Thread-safe."""

    def __init__(self, failures: int, pause_s: float, clock: Callable[[], float]) -> None:
        self._limit, self._pause_s, self._clock = failures, pause_s, clock
        self._lock = threading.Lock()
        self._failures = 0
        self._last = ""
        self._until: float | None = None
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Until a trial has succeeded."""
        return self._until is not None

    @property
    def open_for_s(self) -> float:
        """Seconds until a call may pass; 0 when one may."""
        until = self._until
        return 0.0 if until is None else max(until - self._clock(), 0.0)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around a call, whose outcome counts. Raises OSError (EHOSTDOWN) when it may not be."""
        trial = self._admit()
        failure: BaseException | None = None
        try:
            yield
        except BaseException as error:
            answered = isinstance(error, OSError) and error.errno in _ANSWERS
            failure = None if answered or isinstance(error, FileNotFoundError) else error
            raise
        finally:
            self._settle(trial, failure)

    def _admit(self) -> bool:
        """Whether this call is the trial."""
        with self._lock:
            if self._until is None:
                return False
            left_s = self.open_for_s
            if left_s or self._trying:
                when = f"next try in {left_s:.1f} s" if left_s else "being tried now"
                text = f"failed {self._failures} times, at last with {self._last}; {when}"
                raise OSError(errno.EHOSTDOWN, text)
            self._trying = True
            return True

    def _settle(self, trial: bool, failure: BaseException | None) -> None:
        with self._lock:
            if trial:
                self._trying = False
            elif self._until is not None:  # it began before the breaker opened
                return
            if failure is None:
                self._failures, self._until = 0, None
                return
            self._failures, self._last = self._failures + 1, str(failure)
            if trial or self._failures >= self._limit:
                self._until = self._clock() + self._pause_s
        if self._failures == self._limit:
            logger.warning("remote store left alone for %g s: %s", self._pause_s, failure)
