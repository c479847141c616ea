"""Ctrl-C and SIGTERM while a local cluster is up: one asks to stop, a second one to hurry.

The first raises in the main thread, so that the `with` block unwinds. While it unwinds, and while
processes are swept, further ones are only noted: nothing may interrupt the last step.
"""

import signal
import threading
from types import FrameType
from typing import Any, Literal

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Phase = Literal["running", "unwinding", "stopping", "sweeping"]


class Hurry(BaseException):
    """A second signal while stopping gracefully: skip to the sweep."""


class Interrupts:
    """Only the main thread can install handlers; elsewhere this does nothing."""

    def __init__(self) -> None:
        self._phase: Phase = "running"
        self._hurry = False
        self._before: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Idempotent: libraries that set handlers of their own are overruled by calling again."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            before = signal.signal(number, self._on_signal)
            self._before.setdefault(number, before)

    def restore(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)
        self._before.clear()

    def stopping(self) -> None:
        """From here on a signal raises Hurry. Raises it if one came while unwinding."""
        self._phase = "stopping"
        self.install()
        if self._hurry:
            raise Hurry

    def sweeping(self) -> None:
        """From here on nothing is raised."""
        self._phase = "sweeping"

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._phase == "running":
            self._phase = "unwinding"
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        if self._phase == "stopping":
            self._phase = "sweeping"
            raise Hurry
        self._hurry = True
