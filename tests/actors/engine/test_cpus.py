import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.engine.cpus import usable_cpus
from tests.tracked import ROOT

AFFINITY = len(os.sched_getaffinity(0))
WIDE = "6400000 100000"
"""64 CPUs."""


def written(folder: Path, files: dict[str, str]) -> tuple[Path, Path]:
    """The two trees of a machine with these files, below `proc` and `cgroup`."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return folder / "proc", folder / "cgroup"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, AFFINITY),
        ({"proc/self/cgroup": "0::/", "cgroup/cpu.max": "100000 100000"}, 1),
        ({"proc/self/cgroup": "0::/", "cgroup/cpu.max": "190000 100000"}, 1),
        ({"proc/self/cgroup": "0::/", "cgroup/cpu.max": "20000 100000"}, 1),
        ({"proc/self/cgroup": "0::/", "cgroup/cpu.max": "max 100000"}, AFFINITY),
        ({"proc/self/cgroup": "0::/", "cgroup/cpu.max": WIDE}, AFFINITY),
        ({"proc/self/cgroup": "0::/", "cgroup/cpu.max": "nonsense"}, AFFINITY),
        ({"proc/self/cgroup": "0::/", "cgroup/cpu.max": "100000 0"}, AFFINITY),
        (
            {
                "proc/self/cgroup": "0::/kubepods/pod1/c1",
                "cgroup/kubepods/pod1/cpu.max": "100000 100000",
                "cgroup/kubepods/pod1/c1/cpu.max": WIDE,
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x",
                "cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "150000",
                "cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/docker/x",
                "cgroup/cpu/cpu.cfs_quota_us": "50000",
                "cgroup/cpu/cpu.cfs_period_us": "50000",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/",
                "cgroup/cpu/cpu.cfs_quota_us": "-1",
                "cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            AFFINITY,
        ),
    ],
)
def test_the_smaller_of_affinity_and_quota_counts(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    assert usable_cpus(*written(tmp_path, files)) == expected


def test_a_quota_of_the_kernel_s_is_obeyed() -> None:
    """A process in a control group of one CPU, made for it."""
    group = Path("/sys/fs/cgroup/cpu/hyperrag-test")
    try:
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cpu.cfs_quota_us").write_text("100000")
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    code = (
        f"import os; open('{group}/cgroup.procs', 'w').write(str(os.getpid()))\n"
        "from actors.engine.cpus import usable_cpus; print(usable_cpus())"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert done.stdout == "1\n", done.stderr
    finally:
        group.rmdir()
