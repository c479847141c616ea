"""Ctrl-C and SIGTERM while a local cluster is up: one asks to stop, one more to hurry.

A signal raises in the main thread, so that the `with` block unwinds. What is raised can be lost (in
a callback, a destructor, a fork hook): it is raised again every few seconds until stopping begins.
Nothing is raised any more once processes are swept: nothing may interrupt the last step.
"""

import signal
import threading
from types import FrameType
from typing import Any, Literal

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_S = 3.0
Phase = Literal["running", "unwinding", "stopping", "sweeping"]


class Hurry(BaseException):
    """A signal while stopping gracefully: skip to the sweep."""


class Interrupts:
    """Only the main thread can install handlers; elsewhere this does nothing."""

    def __init__(self) -> None:
        self._phase: Phase = "running"
        self._first: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    @property
    def status(self) -> int | None:
        """The exit status that says which signal asked to stop; None where none did."""
        return None if self._first is None else 128 + self._first

    def install(self) -> None:
        """Idempotent: libraries that set handlers of their own are overruled by calling again."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            self._set(number, self._on_signal)

    def restore(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)
        self._before.clear()

    def raise_if_lost(self) -> None:
        """For the end of code that is known to swallow exceptions."""
        if self._phase == "unwinding":
            self._raise()

    def stopping(self) -> None:
        """From here on a signal raises Hurry."""
        self._phase = "stopping"
        if signal.SIGALRM in self._before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.install()

    def sweeping(self) -> None:
        """From here on nothing is raised."""
        self._phase = "sweeping"

    def _set(self, number: signal.Signals, handler: Any) -> None:
        before = signal.signal(number, handler)
        self._before.setdefault(number, before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._phase == "running":
            self._phase, self._first = "unwinding", number
            self._set(signal.SIGALRM, self._on_alarm)
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)
        if self._phase == "unwinding":
            self._raise()
        if self._phase == "stopping":
            self._phase = "sweeping"
            raise Hurry

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        self.raise_if_lost()

    def _raise(self) -> None:
        if self._first == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(self.status)
