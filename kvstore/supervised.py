"""Background threads that outlive what goes wrong in them.

A thread does one item, or one round, per call of its step. A step that raises is logged and
counted, and the next one follows: one item is lost, never the thread. The step itself resolves
what it had begun (a waiter is told, a pin given back) and raises on, by `finally` or a bare
`raise`.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from kvstore.types import ThreadStats

logger = logging.getLogger(__name__)

T = TypeVar("T")

Step = Callable[[], bool | None]
"""Does one item. False: there will be no more."""

_FIRST_PAUSE_S = 0.01
_MAX_PAUSE_S = 0.5
"""Pauses double with each failure in a row: a step that always fails does not spin."""
_LOG_EVERY_S = 60.0
"""How often one kind of failure of a thread is logged."""


class SupervisedThread:
    """One daemon thread: it does not keep the process alive while it hangs."""

    def __init__(self, name: str, step: Step, interval_s: float = 0.0) -> None:
        """Starts. Every step, after `interval_s`, is followed by another until one returns False
        or `stop` is called."""
        self.name = name
        self._step = step
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._done = False
        self._failures = self._in_a_row = 0
        self._logged: dict[type[Exception], float] = {}
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def runs(self) -> bool:
        return self._thread.is_alive()

    def stats(self) -> ThreadStats:
        """Takes no lock."""
        return ThreadStats(self._done or self.runs, self._failures)

    def stop(self) -> None:
        """Ends the waits between steps, and the thread after its current step."""
        self._stopped.set()

    def join(self, timeout_s: float) -> None:
        """Waits for its end; a thread that hangs is left behind."""
        self._thread.join(max(0.0, timeout_s))

    def await_end(self, give_up: float) -> None:
        """As long as that, by the monotonic time of its end."""
        self.join(give_up - time.monotonic())

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s + self._pause_s):
            try:
                if self._step() is False:
                    break
                self._in_a_row = 0
            except Exception as error:  # the thread's boundary: the next step follows
                self._failures += 1
                self._in_a_row += 1
                self._log(error)
        self._done = True

    @property
    def _pause_s(self) -> float:
        if not self._in_a_row:
            return 0.0
        return float(min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(self._in_a_row - 1, 16)))

    def _log(self, error: Exception) -> None:
        now, kind = time.monotonic(), type(error)
        if now >= self._logged.get(kind, 0.0):
            self._logged[kind] = now + _LOG_EVERY_S
            text = "thread %s goes on after failure %d"
            logger.error(text, self.name, self._failures, exc_info=error)


def each(items: Iterable[T], work: Callable[[T], object]) -> None:
    """Does the work for every item, then raises the first failure: one bad item does not keep the
    others from their turn."""
    failed: Exception | None = None
    for item in items:
        try:
            work(item)
        except Exception as error:  # raised below, at the end
            failed = failed or error
    if failed is not None:
        raise failed


def _call(step: Step) -> None:
    step()


class Supervisor:
    """The threads of one component, by name. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: dict[str, SupervisedThread] = {}

    def start(self, name: str, step: Step) -> SupervisedThread:
        """A thread that repeats `step`, which waits for its next item, until it returns False."""
        return self._add(SupervisedThread(name, step))

    def every(self, interval_s: float, name: str, *steps: Step) -> SupervisedThread:
        """A thread that does all of the steps after each interval, until it is stopped. One that
        fails does not keep the rest from being done."""
        return self._add(SupervisedThread(name, lambda: each(steps, _call), interval_s))

    def stats(self) -> dict[str, ThreadStats]:
        with self._lock:
            threads = list(self._threads.values())
        return {thread.name: thread.stats() for thread in threads}

    def gone(self) -> list[str]:
        """Names of the threads that do not run, and had not come to their end."""
        return [name for name, stats in self.stats().items() if not stats.up]

    def _add(self, thread: SupervisedThread) -> SupervisedThread:
        with self._lock:
            assert thread.name not in self._threads, f"two threads are named {thread.name}"
            self._threads[thread.name] = thread
        return thread
