import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvstore.holders import Holder, Holders, lives
from kvstore.locks import OwnedFile, is_owned, open_lock_file, open_own, sweep, try_lock
from kvstore.types import HolderId

NAMES = re.compile(r"x-[0-9a-f]+")


def test_a_living_owner_keeps_its_file(tmp_path: Path) -> None:
    file = OwnedFile(tmp_path, "x-")
    other = open_own(file.path)
    assert other is not None and not try_lock(other)
    assert sweep(tmp_path, NAMES) == 0 and file.path.exists()
    os.close(other)
    file.close()
    file.close()
    assert not file.path.exists()


def test_a_dead_owners_file_is_swept_and_others_are_not_looked_at(tmp_path: Path) -> None:
    for name in ("x-1", "y-1", "x-1.txt", "x-notes"):
        (tmp_path / name).write_bytes(b"")
    assert sweep(tmp_path, NAMES) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x-1.txt", "x-notes", "y-1"]


def test_a_killed_process_drops_its_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys; from kvstore.holders import Holder;"
        "Holder(sys.argv[1]); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=60)
    living = Holder(str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2
    Holders(str(tmp_path))
    assert lives(str(tmp_path), living.holder_id) and len(list(tmp_path.iterdir())) == 1
    living.close()


def _link(path: Path) -> None:
    path.with_name("target").write_bytes(b"")
    path.symlink_to(path.with_name("target"))


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


NO_FILES: dict[str, Callable[[Path], None]] = {
    "link": _link,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "folder": Path.mkdir,
    "FIFO": os.mkfifo,
    "socket": _socket,
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_regular_file_is_neither_believed_nor_touched(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x-1"
    NO_FILES[kind](path)
    before = sorted(p.name for p in tmp_path.iterdir())
    assert open_own(path) is None and not is_owned(path)
    assert sweep(tmp_path, NAMES) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_holder_is_no_path(tmp_path: Path) -> None:
    assert not lives(str(tmp_path), HolderId("../../etc/passwd"))
    with pytest.raises(ValueError, match="must be 16 hex digits"):
        Holders(str(tmp_path)).ensure(HolderId("../x"))


def test_a_swept_file_is_not_taken_from_whoever_has_the_name_now(tmp_path: Path) -> None:
    file = OwnedFile(tmp_path, "x-")
    file.path.unlink()
    file.path.write_bytes(b"another's")
    file.close()
    assert file.path.read_bytes() == b"another's"


@pytest.mark.parametrize("kind", [*NO_FILES, "another name of a file"])
def test_a_lock_file_is_made_and_nothing_else_is_opened_for_one(tmp_path: Path, kind: str) -> None:
    fd = open_lock_file(tmp_path / "lock")
    assert try_lock(fd) and (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    os.close(fd)
    if kind in NO_FILES:
        NO_FILES[kind](tmp_path / "planted")
    else:
        os.link(tmp_path / "lock", tmp_path / "planted")
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(OSError):
        open_lock_file(tmp_path / "planted")
    assert sorted(p.name for p in tmp_path.iterdir()) == before
