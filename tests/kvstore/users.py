"""Code that runs as another user of the machine, in a folder that all of them may write to."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tracked import ROOT

NOBODY, STRANGER = 65534, 54321
"""An account without rights, and one that is neither this one nor root."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

_BECOME = """
import os, sys
import numpy.random
from kvstore.arena import *
from kvstore.errors import *
from kvstore.holders import *
from kvstore.local import LocalStoreClient
from kvstore.locks import *
from kvstore.store import KVStore
from kvstore.tiers.folder import Folder
from tests.kvstore.segments import *
from pathlib import Path
folder = Path(sys.argv[1])
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
sys.meta_path.clear()
"""
"""The other user may be unable to read the environment: all is imported before, nothing after."""


def run_as(uid: int, folder: Path, code: str) -> str:
    """What `code` prints, with `folder` and the store's names at hand; it must not fail."""
    command = [sys.executable, "-c", _BECOME + code, str(folder), str(uid)]
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@contextmanager
def shared_folder() -> Iterator[Path]:
    """As /tmp and /dev/shm are: all may write, and each may remove what is theirs."""
    folder = Path(tempfile.mkdtemp(prefix="hyperrag-test-shared-"))
    try:
        folder.chmod(0o1777)
        yield folder
    finally:
        shutil.rmtree(folder)


def plant(path: Path, data: bytes = b"mine", uid: int = STRANGER, mode: int = 0o666) -> Path:
    """A stranger's file."""
    path.write_bytes(data)
    os.chown(path, uid, uid)
    path.chmod(mode)
    return path
