"""Processes of a run are found and ended, others are left alone."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from cluster.sweep import RUN_ID, adopt_orphans, processes_of, sweep

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
"""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def spawn(started: list[subprocess.Popen[str]], code: str, run_id: str) -> subprocess.Popen[str]:
    env = {**os.environ, RUN_ID: run_id}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True
    )
    started.append(process)
    return process


def test_orphans_of_the_run_end_and_strangers_live(started: list[subprocess.Popen[str]]) -> None:
    since = time.time()
    adopt_orphans()
    stranger = spawn(started, "import time; print(1, flush=True); time.sleep(60)", "other")
    parent = spawn(started, PARENT, "run-1")
    assert stranger.stdout and stranger.stdout.readline()
    assert parent.stdout
    orphan = psutil.Process(int(parent.stdout.readline()))
    parent.wait()
    assert [p.pid for p in processes_of("run-1", since)] == [orphan.pid]
    assert sweep("run-1", since) == 1
    assert not psutil.pid_exists(orphan.pid)
    assert stranger.poll() is None


def test_a_process_that_lost_its_environment_is_known_as_a_descendant(
    started: list[subprocess.Popen[str]],
) -> None:
    since = time.time()
    code = "import time; print(1, flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={}, stdout=subprocess.PIPE, text=True
    )
    started.append(process)
    assert process.stdout and process.stdout.readline()
    assert process.pid in [p.pid for p in processes_of("run-2", since)]
    assert process.pid not in [p.pid for p in processes_of("run-2", since + 3600)]
