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
    Folders(tmp_path, files).recover()
    assert files.log == [SyncFolder(""), SyncFolder("a"), SyncFolder("a/b")]


def test_a_disk_that_cannot_sync_does_not_keep_the_tier_from_starting(tmp_path: Path) -> None:
    Folders(tmp_path, OneBadSync(tmp_path)).recover()
