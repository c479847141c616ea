"""A power cut at any point loses nothing that was acknowledged, and whoever skips a sync is
caught."""

from pathlib import Path

import pytest

from tests.kvstore.crash.lives import Verdict, cut_lives
from tests.kvstore.crash.recording import RecordingFiles


class NoFileSync(RecordingFiles):
    def sync(self, fd: int) -> None:
        pass


class NoFolderSync(RecordingFiles):
    def sync_folder(self, path: Path) -> None:
        pass


class NoParentSync(RecordingFiles):
    """Syncs the folder that a file is in, not the folders above it."""

    def sync_folder(self, path: Path) -> None:
        if self._name(path).count("/") == 1:
            super().sync_folder(path)


@pytest.mark.parametrize("seed", range(2))
def test_nothing_acknowledged_is_lost_and_nothing_partial_is_seen(
    tmp_path: Path, seed: int
) -> None:
    verdict = cut_lives(300, seed, tmp_path)
    assert verdict == Verdict(states=300, acknowledged=verdict.acknowledged)
    assert verdict.acknowledged > 600


@pytest.mark.parametrize("files", [NoFileSync, NoFolderSync, NoParentSync])
def test_a_tier_that_skips_a_sync_loses_what_it_acknowledged(
    tmp_path: Path, files: type[RecordingFiles]
) -> None:
    assert cut_lives(200, 0, tmp_path, files).lost > 0


def test_bytes_that_were_not_synced_are_seen_in_part(tmp_path: Path) -> None:
    assert cut_lives(200, 0, tmp_path, NoFileSync).partial > 0
