"""A memory file system of a few megabytes: what one arena takes of it, the next one lacks."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_tmpfs(folder: Path, nbytes: int) -> Iterator[Path]:
    """Mounted at `folder`, which is made; skips the test where this user may not mount."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={nbytes}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "") or error
        pytest.skip(f"no tmpfs can be mounted here: {reason}")
    try:
        yield folder
    finally:
        # Lazily: what a failed test still maps must not keep the folder.
        subprocess.run(["umount", "-l", str(folder)], check=True)
