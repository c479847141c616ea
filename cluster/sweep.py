"""Finds and ends every process of one run.

Ray's processes inherit HYPERRAG_RUN_ID. Some of them overwrite their environment with a title; they
are found as our descendants. Orphans become our children (Linux): none can hide behind init.
"""

import ctypes
import os
import sys
import time

import psutil

RUN_ID = "HYPERRAG_RUN_ID"
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def processes_of(run_id: str, since: float) -> list[psutil.Process]:
    """Living processes of the run, `since` a time in seconds since the epoch; never ourselves."""
    mine = {process.pid for process in psutil.Process().children(recursive=True)}
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and _belongs(process, run_id, since, process.pid in mine)
    ]


def sweep(run_id: str, since: float, limit_s: float = 10.0) -> int:
    """Kill until none is left; how many there were. Gives up after `limit_s`."""
    killed: set[int] = set()
    deadline = time.monotonic() + limit_s
    while (left := processes_of(run_id, since)) and time.monotonic() < deadline:
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:  # it ended between the look and the kill
                continue
            killed.add(process.pid)
        psutil.wait_procs(left, timeout=1.0)
    return len(killed)


def _belongs(process: psutil.Process, run_id: str, since: float, descends: bool) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        environment = process.environ()
        lost = not environment and descends and process.create_time() >= since - 1.0
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    return lost or environment.get(RUN_ID) == run_id
