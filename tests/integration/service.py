"""A real `hyperrag serve` in a process of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import yaml

from hyperrag import Client
from tests.integration.processes import alive, of_run
from tests.tracked import ROOT

MARK = "HYPERRAG_TEST_RUN"
"""In the environment of `serve`, and so of everything below it."""
START_S = 240.0
STOP_S = 150.0
LOG_TAIL = 6000
Settings = Mapping[str, Any]
"""Of the configuration file, as YAML has them."""
SMALL: Settings = {
    # Where reuse gives the same tokens as full computation: answers are compared.
    "models": {"reranker": {"dtype": "float32"}, "generator": {"dtype": "float32"}},
    "store": {"dram_bytes": 384 * 2**20, "ssd_bytes": 2**30},
    "ingress": {"request_timeout_s": 120.0},
    "retrieval": {"top_n": 8, "max_document_bytes": 2**20},
}
"""Small stores, short enough timeouts."""


@dataclass(frozen=True)
class Service:
    url: str
    port: int
    folder: Path
    mark: str
    pid: int

    def processes(self) -> list[psutil.Process]:
        return of_run(MARK, self.mark, self.pid)

    def log(self) -> str:
        return (self.folder / "serve.log").read_text("utf-8", "replace")[-LOG_TAIL:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def write_config(folder: Path, port: int, settings: Settings = SMALL) -> Path:
    """`settings`, on this port, everything below `folder`."""
    config = {
        **settings,
        "data_dir": str(folder / "data"),
        "ingress": {**settings["ingress"], "port": port},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def start(
    folder: Path, port: int, settings: Settings = SMALL
) -> tuple[subprocess.Popen[bytes], Service]:
    """`serve`, not yet ready. In a session of its own: a Ctrl-C of the tests is not its own."""
    mark = uuid4().hex
    command = [sys.executable, "-m", "hyperrag", "serve", "--config"]
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, str(write_config(folder, port, settings))],
            cwd=ROOT,
            env={**os.environ, MARK: mark, "PYTHONFAULTHANDLER": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return process, Service(f"http://127.0.0.1:{port}", port, folder, mark, process.pid)


def wait_ready(process: subprocess.Popen[bytes], service: Service) -> None:
    deadline = time.monotonic() + START_S
    with Client(service.url, timeout_s=10) as client:
        while not client.ready():
            assert process.poll() is None, f"serve ended:\n{service.log()}"
            assert time.monotonic() < deadline, f"not ready in {START_S:g} s:\n{service.log()}"
            time.sleep(0.5)


def interrupt(process: subprocess.Popen[bytes], service: Service) -> int:
    """Ctrl-C; the exit status. Asserts that no process of the run is left."""
    run = service.processes()
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        status = process.wait(STOP_S)
        left = _left_after(run, service, patience_s=5)
        assert not left, f"left behind: {left}\n{service.log()}"
        return status
    finally:
        for survivor in [*run, *of_run(MARK, service.mark)]:
            if survivor.is_running():
                survivor.kill()


def _left_after(run: list[psutil.Process], service: Service, patience_s: float) -> list[str]:
    deadline = time.monotonic() + patience_s
    while left := alive([*run, *of_run(MARK, service.mark)]):
        if time.monotonic() > deadline:
            return left
        time.sleep(0.2)
    return []


@contextmanager
def running(folder: Path, settings: Settings = SMALL) -> Iterator[Service]:
    process, service = start(folder, free_port(), settings)
    try:
        wait_ready(process, service)
        yield service
    finally:
        interrupt(process, service)
