import errno
from pathlib import Path

import pytest

from kvstore.tiers.folders import Folders
from tests.kvstore.crash.recording import MakeFolder, RecordingFiles, SyncFolder


class OneBadSync(RecordingFiles):
    """The first sync of a folder fails."""

    def sync_folder(self, path: Path) -> None:
        if not any(isinstance(event, SyncFolder) for event in self.log):
            self.log.append(SyncFolder("failed"))
            raise OSError(errno.EIO, "no")
        super().sync_folder(path)


def test_every_level_lasts_before_what_is_below_it(tmp_path: Path) -> None:
    files = RecordingFiles(tmp_path)
    folders = Folders(tmp_path, files)
    folders.make(tmp_path / "a" / "b")
    assert files.log == [MakeFolder("a"), SyncFolder(""), MakeFolder("a/b"), SyncFolder("a")]
    folders.make(tmp_path / "a" / "b")
    assert len(files.log) == 4, "once is enough"


def test_a_folder_whose_sync_failed_is_synced_by_the_next_who_needs_it(tmp_path: Path) -> None:
    files = OneBadSync(tmp_path)
    folders = Folders(tmp_path, files)
    with pytest.raises(OSError, match="no"):
        folders.make(tmp_path / "a")
    folders.make(tmp_path / "a")
    assert files.log[-1] == SyncFolder("")


def test_a_predecessors_names_are_synced(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    files = RecordingFiles(tmp_path)
    folders = Folders(tmp_path, files)
    assert not folders.settled
    folders.settle()
    assert files.log == [SyncFolder(""), SyncFolder("a"), SyncFolder("a/b")] and folders.settled
    folders.settle()
    assert len(files.log) == 3, "once is enough"


def test_only_folders_that_lost_a_name_are_synced(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "c").mkdir()
    files = RecordingFiles(tmp_path)
    folders = Folders(tmp_path, files)
    folders.settle()
    files.log.clear()
    folders.changed(tmp_path / "a" / "c")
    assert not folders.settled
    folders.settle()
    assert files.log == [SyncFolder("a/c")]
    folders.changed(tmp_path / "a" / "b")
    folders.sync(tmp_path / "a" / "b")  # as a write does
    assert folders.settled


def test_a_sync_that_fails_is_reported_and_done_again(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    files = OneBadSync(tmp_path)
    folders = Folders(tmp_path, files)
    with pytest.raises(OSError, match="no"):
        folders.settle()
    assert files.log == [SyncFolder("failed"), SyncFolder("a")] and not folders.settled
    folders.settle()
    assert folders.settled


def test_a_folder_that_is_gone_has_nothing_to_settle(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    folders = Folders(tmp_path, RecordingFiles(tmp_path))
    (tmp_path / "a").rmdir()
    folders.settle()
    assert folders.settled
