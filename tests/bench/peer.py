"""Another program to compare with: a process that answers one JSON line with another."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any

from tests.bench.harness import CannotRun

_ROOT = Path(__file__).parents[2]
_END_S = 60.0


class Peer:
    """Runs from the root of the repository, in a process group of its own: what it starts ends
    with it. It is stopped while it is not asked: engines that spin while they wait would take a
    core from whoever is measured in turn with them."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = list(command)
        # Ours belong to another interpreter.
        ours = ("PYTHONPATH", "VIRTUAL_ENV", "OMP_WAIT_POLICY")
        kept = {name: value for name, value in os.environ.items() if name not in ours}
        self._environment = kept | dict(environment)

    def __enter__(self) -> "Peer":
        self._errors = TemporaryFile("w+")
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=_ROOT,
            env=self._environment,
            start_new_session=True,
        )
        return self

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """CannotRun, with the last line that it wrote on its standard error, when it has ended."""
        assert self._process.stdin and self._process.stdout
        self._signal(signal.SIGCONT)
        with suppress(BrokenPipeError):
            print(json.dumps(message), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["it said nothing"])[-1]
            raise CannotRun(f"{self._command[0]} ended: {last}")
        self._signal(signal.SIGSTOP)
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin and self._process.stdout
        self._signal(signal.SIGCONT)
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()
