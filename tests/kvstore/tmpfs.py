"""Small file systems of their own. A memory file system of a few megabytes: what one arena takes of
it, the next one lacks. A volume: mounted, unmounted and mounted again, as another device too."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_tmpfs(folder: Path, nbytes: int) -> Iterator[Path]:
    """Mounted at `folder`, which is made; skips the test where this user may not mount."""
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={nbytes}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        # Lazily: what a failed test still maps must not keep the folder.
        subprocess.run(["umount", "-l", str(folder)], check=True)


def make_volume(image: Path) -> None:
    """An empty ext4 in a file; skips the test where none can be made."""
    with image.open("wb") as file:
        file.truncate(8 * 2**20)
    _run("mkfs.ext4", "-q", str(image))


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    """The volume at `folder`; skips the test where this user may not mount."""
    folder.mkdir(exist_ok=True)
    _run("mount", "-o", "loop", str(image), str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", "") or error
        pytest.skip(f"no file system can be made or mounted here: {reason}")
