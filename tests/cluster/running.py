"""The small application in a process of its own, started and stopped as a user would."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.integration.processes import replicas

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Running:
    """`app` is what it builds, `lines` what it has printed so far. Everything it starts carries a
    mark of our own in the environment, so that the test knows what was left behind whatever the
    code under test knows."""

    def __init__(self, folder: Path, **overrides: Any) -> None:
        self.folder = folder
        self.port = free_port()
        self.mark = f"{os.getpid()}-{time.monotonic_ns()}"
        app = str(overrides.pop("app", "tests.cluster.small_app:build"))
        path = self._write_config(overrides)
        self.lines: list[str] = []
        self._seen: set[psutil.Process] = set()
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.cluster.small_app", str(path), app],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "TEST_MARK": self.mark},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def update(self, limit_s: float = 240, **overrides: object) -> str:
        """Deploy another configuration over what runs; what came of it."""
        assert self.process.stdin
        self.process.stdin.write(f"{self._write_config(overrides)}\n")
        self.process.stdin.flush()
        num, deadline = len(self.lines), time.monotonic() + limit_s
        while True:
            for line in self.lines[num:]:
                if line == "updated" or line.startswith("not updated"):
                    return line
            assert self.process.poll() is None and time.monotonic() < deadline, self.lines
            time.sleep(0.05)

    def replicas(self) -> set[tuple[str, int]]:
        """Deployment and process of every replica that lives."""
        self.left()
        found = replicas([process for process in self._seen if _lives(process)])
        return {(deployment, one.pid) for deployment, own in found.items() for one in own}

    def _write_config(self, overrides: dict[str, Any]) -> Path:
        path = self.folder / f"config-{time.monotonic_ns()}.yaml"
        config = {
            "data_dir": str(self.folder / "data"),
            "ingress": {"port": self.port, **overrides.pop("ingress", {})},
            "store": {"dram_bytes": 2**26, "ssd_bytes": 2**26},
        }
        path.write_text(yaml.safe_dump({**config, **overrides}))
        return path

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def wait_for(self, line: str, limit_s: float = 240) -> None:
        deadline = time.monotonic() + limit_s
        while line not in self.lines:
            assert self.process.poll() is None and time.monotonic() < deadline, self.lines
            time.sleep(0.05)

    def wait_for_children(self, num: int, limit_s: float = 90) -> None:
        """Until Ray is in the middle of starting."""
        deadline = time.monotonic() + limit_s
        while len(self.left()) < num + 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def signal(self, number: int, group: bool = False) -> None:
        """To the process, or as the terminal does on Ctrl-C to its whole group."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def wait(self, limit_s: float = 150) -> int:
        code = self.process.wait(limit_s)
        self._reader.join(5)
        return code

    def left(self) -> list[str]:
        """Processes that it started and that still live, itself included. Some of Ray's erase their
        environment: those are known from having been seen below one of the others."""
        for process in psutil.process_iter():
            try:
                if process.environ().get("TEST_MARK") == self.mark:
                    self._seen |= {process, *process.children(recursive=True)}
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return [_described(process) for process in self._seen if _lives(process)]

    def end(self) -> None:
        """However the test went."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)
        self.left()
        for process in filter(_lives, self._seen):
            process.kill()
        self._reader.join(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()


@contextmanager
def serving(folder: Path, **overrides: Any) -> Iterator[Running]:
    """The small application, or `app`, ready; ended however the test went."""
    service = Running(folder, **overrides)
    try:
        service.wait_for("ready")
        yield service
    finally:
        service.end()


def _described(process: psutil.Process) -> str:
    """With its command: a title such as `ray::DashboardAgent` comes only when it has started."""
    try:
        return f"{process} {' '.join(process.cmdline())}"
    except psutil.NoSuchProcess:
        return str(process)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
