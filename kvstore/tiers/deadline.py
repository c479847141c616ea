"""Calls that end in time for their caller, though what they call may hang."""

import errno
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class AbandonedError(TimeoutError):
    """The call goes on without its caller: what it was given is its own until it ends."""


class Deadline:
    """Runs each call in a thread of its own, of which there are few. Thread-safe.

    A call that is not back after `seconds` is abandoned: its thread ends when the call does, and
    takes its place until then. Without a free place a caller waits as long; when hung calls have
    all the places it fails at once. The threads are daemons, because those of an executor would
    keep a process from ending while its file system hangs.
    """

    def __init__(self, seconds: float, threads: int) -> None:
        self._seconds = seconds
        self._threads = threads
        self._changed = threading.Condition()
        self._running = 0
        self._abandoned = 0

    def run(
        self,
        call: Callable[[], T],
        late: Callable[[T | None], None] | None = None,
        pieces: int = 1,
    ) -> T:
        """What `call` returns or raises, or TimeoutError; AbandonedError if it had begun. One that
        moves several pieces of data has the time for each of them.

        After an abandoned call `late` gets its result, None if it failed, in its thread: to close
        what nobody waits for any more. It may raise OSError.
        """
        self._take_place(time.monotonic() + self._seconds)
        seconds = pieces * self._seconds
        end = time.monotonic() + seconds
        future: Future[T] = Future()
        thread = threading.Thread(target=self._work, args=(call, future, late), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the process has no more threads
            self._leave_place(abandoned=False)
            raise OSError(errno.EAGAIN, str(error)) from error
        try:
            return future.result(max(end - time.monotonic(), 0))
        except TimeoutError:
            with self._changed:
                if not future.cancel():  # it is back, perhaps with a TimeoutError of its own
                    return future.result()
                self._abandoned += 1
                self._changed.notify_all()
            text = f"no answer within {seconds:g} s"
            raise AbandonedError(errno.ETIMEDOUT, text) from None

    def _take_place(self, end: float) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._running < self._threads or self._abandoned == self._threads,
                end - time.monotonic(),
            )
            if self._running == self._threads:
                text = f"{self._running} calls are running, {self._abandoned} of them hang"
                raise TimeoutError(errno.ETIMEDOUT, text)
            self._running += 1

    def _leave_place(self, abandoned: bool) -> None:
        with self._changed:
            self._running -= 1
            self._abandoned -= abandoned
            self._changed.notify_all()

    def _work(
        self,
        call: Callable[[], T],
        future: Future[T],
        late: Callable[[T | None], None] | None,
    ) -> None:
        result: T | None = None
        abandoned = False
        try:
            try:
                result = call()
            except OSError as error:
                future.set_exception(error)
            except BaseException as error:  # a bug: for the caller, and for the thread's report
                future.set_exception(error)
                raise
            else:
                future.set_result(result)
        except InvalidStateError:  # cancelled by its caller
            abandoned = True
            if late is not None:
                with suppress(OSError):
                    late(result)
        finally:
            self._leave_place(abandoned)
