"""One store has a folder, whatever names in it are removed while it runs."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from kvstore.errors import StoreConfigError
from kvstore.locks import try_lock
from kvstore.store import KVStore
from kvstore.tiers import folder_lock
from kvstore.tiers.files import Files
from kvstore.tiers.folder import Folder
from kvstore.tiers.folder_lock import LOCK
from kvstore.tiers.store_folder import MARK, StoreFolder
from tests.kvstore.segments import chain_of, passage, small_config

KEY = chain_of(passage(1))[0].key


def folder_of(path: Path) -> StoreFolder:
    return StoreFolder(path, "store.ssd_dir", wait_s=0.05)


def assert_taken(path: Path) -> None:
    with pytest.raises(StoreConfigError, match="another running store owns"):
        folder_of(path)


def write(medium: Folder) -> None:
    medium.write(KEY, b"header", memoryview(b"payload"))


@pytest.mark.parametrize("names", [(LOCK,), (LOCK, MARK)])
def test_who_removes_the_lock_lets_no_second_store_in(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    medium = Folder(tmp_path / "ssd", 0)
    for name in names:
        (tmp_path / "ssd" / name).unlink()
    before = sorted((tmp_path / "ssd").iterdir())
    with pytest.raises(StoreConfigError, match="store.ssd_dir is"):
        folder_of(tmp_path / "ssd")
    assert sorted((tmp_path / "ssd").iterdir()) == before, "not even a lock was made"
    medium.close()


def test_a_write_makes_mark_and_lock_again(tmp_path: Path) -> None:
    medium = Folder(tmp_path / "ssd", 0)
    write(medium)
    for name in (LOCK, MARK):
        (tmp_path / "ssd" / name).unlink()
    write(medium)
    assert (tmp_path / "ssd" / MARK).read_text().startswith("This folder belongs to")
    with (tmp_path / "ssd" / LOCK).open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert_taken(tmp_path / "ssd")
    medium.close()
    Folder(tmp_path / "ssd", 0).close()


def test_a_lock_that_somebody_replaced_is_taken_back(tmp_path: Path) -> None:
    held = folder_of(tmp_path / "ssd")
    (tmp_path / "ssd" / LOCK).unlink()
    (tmp_path / "ssd" / LOCK).touch()
    held.keep(Files())
    assert_taken(tmp_path / "ssd")
    held.close()
    folder_of(tmp_path / "ssd").close()


def test_a_store_that_writes_nothing_leaves_a_folder_that_can_be_taken_again(
    tmp_path: Path,
) -> None:
    config = small_config(tmp_path)
    for _ in range(2):
        store = KVStore(config, "node")
        assert store.flush(10)
        for name in (LOCK, MARK):
            (tmp_path / "ssd" / name).unlink()
        store.close()
    assert (tmp_path / "ssd" / MARK).exists()


def test_another_folder_in_its_place_is_not_marked(tmp_path: Path) -> None:
    medium = Folder(tmp_path / "ssd", 0)
    (tmp_path / "ssd").rename(tmp_path / "moved")
    (tmp_path / "ssd").mkdir()
    (tmp_path / "ssd" / "thesis.tex").touch()
    with pytest.raises(FileNotFoundError):
        medium.tend()
    with pytest.raises(OSError, match="not a store's"):
        write(medium)
    assert [path.name for path in (tmp_path / "ssd").iterdir()] == ["thesis.tex"]
    medium.close()


def test_where_folders_cannot_be_locked_the_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS, where such a lock needs a descriptor that may write."""

    def lock_no_folder(fd: int) -> bool:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return try_lock(fd)

    monkeypatch.setattr(folder_lock, "try_lock", lock_no_folder)
    held = folder_of(tmp_path / "ssd")
    assert_taken(tmp_path / "ssd")
    held.close()
    folder_of(tmp_path / "ssd").close()
