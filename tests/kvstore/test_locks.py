import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvstore.errors import StoreConfigError
from kvstore.holders import Holder, holders_folder
from kvstore.locks import OwnedFile, lock_folder, open_existing, sweep, try_lock


def test_a_living_owner_keeps_its_file(tmp_path: Path) -> None:
    file = OwnedFile(tmp_path, "x-")
    other = open_existing(file.path)
    assert other is not None and not try_lock(other)
    assert sweep(tmp_path, "x-") == 0 and file.path.exists()
    os.close(other)
    file.close()
    file.close()
    assert not file.path.exists()


def test_a_dead_owners_file_is_swept_and_others_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "x-1").write_bytes(b"")
    (tmp_path / "y-1").write_bytes(b"")
    assert sweep(tmp_path, "x-") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["y-1"]


def test_a_killed_process_drops_its_lock(tmp_path: Path) -> None:
    code = (
        "import os, sys; from kvstore.holders import Holder;"
        "Holder(sys.argv[1]); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=60)
    living = Holder(str(tmp_path))
    assert sweep(holders_folder(str(tmp_path)), "") == 1
    living.close()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"")
    (tmp_path / "x-1").symlink_to(tmp_path / "target")
    (tmp_path / "x-2").mkdir()
    assert sweep(tmp_path, "x-") == 0
    assert (tmp_path / "target").exists()


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    fd = lock_folder(tmp_path / "a" / "b", "store.ssd_dir")
    with pytest.raises(StoreConfigError, match="store.ssd_dir is"):
        lock_folder(tmp_path / "a" / "b", "store.ssd_dir", wait_s=0.05)
    os.close(fd)
    os.close(lock_folder(tmp_path / "a" / "b", "store.ssd_dir"))
