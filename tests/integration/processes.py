"""The processes of one running service: what `serve` started, and what those started."""

import contextlib
import re
from collections import defaultdict

import psutil

RUN_ID = "HYPERRAG_RUN_ID"
"""Set by a local cluster for every process that it starts."""
_REPLICA = re.compile(r"ServeReplica:(?:[^:\s]*:)?(\w+)")


def of_run(variable: str, value: str, root_pid: int | None = None) -> list[psutil.Process]:
    """By environment, and by descent: a process that sets its title may lose its environment."""
    found = {
        process.pid: process
        for process in psutil.process_iter()
        if _is_of(process, variable, value)
    }
    for known in [*found.values(), *_existing(root_pid)]:
        with contextlib.suppress(psutil.Error):
            found[known.pid] = known
            found.update((child.pid, child) for child in known.children(recursive=True))
    return list(found.values())


def run_ids() -> set[str]:
    """Every run that has a process on this machine."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found.add(process.environ().get(RUN_ID, ""))
    return found - {""}


def replicas(run: list[psutil.Process]) -> dict[str, list[psutil.Process]]:
    """Serve's replica processes by deployment."""
    found: dict[str, list[psutil.Process]] = defaultdict(list)
    for process in run:
        with contextlib.suppress(psutil.Error):
            if match := _REPLICA.search(" ".join(process.cmdline())):
                found[match[1]].append(process)
    return dict(found)


def alive(run: list[psutil.Process]) -> list[str]:
    """Of these processes, those that still run, in words."""
    words = []
    for process in run:
        with contextlib.suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                words.append(f"{process.pid} {process.name()}")
    return words


def memory_bytes(run: list[psutil.Process]) -> int:
    """Resident bytes that are not shared: the arena, mapped by many, has a size of its own."""
    total = 0
    for process in run:
        with contextlib.suppress(psutil.Error):
            memory = process.memory_info()
            total += memory.rss - getattr(memory, "shared", 0)
    return total


def _is_of(process: psutil.Process, variable: str, value: str) -> bool:
    try:
        return bool(process.environ().get(variable) == value)
    except psutil.Error:
        return False


def _existing(pid: int | None) -> list[psutil.Process]:
    try:
        return [psutil.Process(pid)] if pid else []
    except psutil.NoSuchProcess:
        return []
