"""A pool of threads that does not keep its process alive."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonExecutor(Executor):
    """Runs calls in the order in which they were submitted.

    The interpreter joins the threads of a ThreadPoolExecutor when it exits, so a call that hangs
    in a disk or a mount keeps the process from ending. These threads are daemons, and nobody joins
    them but `shutdown(wait=True)`.
    """

    def __init__(self, num_threads: int, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._closed = False
        self._lock = threading.Lock()
        names = [f"{name}-{i}" for i in range(num_threads)]
        self._threads = [threading.Thread(target=self._run, name=n, daemon=True) for n in names]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot submit to an executor that was shut down")
            self._calls.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """The threads end after the calls that are queued, or after those that run. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                waiting = self._drain() if cancel_futures else []
                for _ in self._threads:
                    self._calls.put(None)
                for future in waiting:
                    future.cancel()
        for thread in self._threads if wait else ():
            thread.join()

    def _drain(self) -> list[Future[Any]]:
        waiting = []
        with suppress(Empty):  # a thread may take the last one
            while call := self._calls.get_nowait():
                waiting.append(call[0])
        return waiting

    def _run(self) -> None:
        while (taken := self._calls.get()) is not None:
            future, call = taken
            if future.set_running_or_notify_cancel():
                _settle(future, call)
            del taken, future, call  # an idle thread keeps no result alive


def _settle(future: Future[Any], call: Callable[[], Any]) -> None:
    try:
        result = call()
    except BaseException as error:  # the caller's, who asks the future
        future.set_exception(error)
    else:
        future.set_result(result)
