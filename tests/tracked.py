"""The files of the repository, as git sees them."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("hyperrag", "cluster", "actors", "kvstore")


def tracked(*patterns: str) -> list[Path]:
    """Files that are tracked or about to be, and exist; all of them without a pattern."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", *patterns]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = [ROOT / name for name in done.stdout.split("\0") if name]
    return [path for path in found if path.is_file()]


def sources() -> list[Path]:
    return tracked(*(f"{package}/*.py" for package in PACKAGES))
