"""How many CPUs this process may use: its affinity, and the CPU quota of its control groups.

Kubernetes and Docker limit CPUs by a CFS quota, which the affinity does not show: with more threads
than that the kernel stops all of them for the rest of each period.
"""

import os
from collections.abc import Iterator
from pathlib import Path


def usable_cpus(proc: Path = Path("/proc"), mounts: Path = Path("/sys/fs/cgroup")) -> int:
    """The smaller of affinity and quota, rounded down, at least 1."""
    cpus = len(os.sched_getaffinity(0))
    return max(1, min([cpus, *(int(quota) for quota in _quotas(proc, mounts))]))


def _quotas(proc: Path, mounts: Path) -> Iterator[float]:
    """In CPUs, of the process's group and of each group above it, in cgroup v2 and v1."""
    for line in _lines(proc / "self" / "cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            for folder in _with_parents((mounts, mounts / "unified"), path):
                yield from _quota_v2(folder)
        elif "cpu" in controllers.split(","):
            for folder in _with_parents((mounts / "cpu", mounts / "cpu,cpuacct"), path):
                yield from _quota_v1(folder)


def _with_parents(roots: tuple[Path, ...], path: str) -> Iterator[Path]:
    """Folders of a group and of those above it. In a container with a view of its own the path may
    not be there, and the root is the container's group."""
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for root in roots:
        for n in range(len(parts) + 1):
            yield root.joinpath(*parts[:n])


def _quota_v2(folder: Path) -> Iterator[float]:
    """`cpu.max` is "QUOTA PERIOD" in microseconds, or "max PERIOD"."""
    for line in _lines(folder / "cpu.max"):
        quota, _, period = line.partition(" ")
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)


def _quota_v1(folder: Path) -> Iterator[float]:
    """A quota of -1 is none."""
    quotas, periods = (_lines(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    for quota, period in zip(quotas, periods, strict=False):
        if quota.isdigit() and period.isdigit() and int(period):
            yield int(quota) / int(period)


def _lines(file: Path) -> list[str]:
    """None of a file that is not there."""
    try:
        return file.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
