"""A power cut at any point loses nothing that was acknowledged, and whoever skips a sync is
caught."""

import random
import shutil
from pathlib import Path

import pytest

from tests.kvstore.crash.lives import Verdict, cut_lives
from tests.kvstore.crash.recording import RecordingFiles
from tests.kvstore.crash.states import Image, after_power_cut
from tests.kvstore.crash.tier import OpenTier, opened
from tests.kvstore.segments import chain_of, passage, payload


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


def times_back(work: Path, settle: bool) -> int:
    """In how many of 40 states after a power cut a removed segment is there again."""
    spec, folder, rng = chain_of(passage(1))[0], work / "life", random.Random(0)
    Image.empty().write_to(folder)
    files = RecordingFiles(folder)
    tier = OpenTier(folder, files)
    tier.put(spec, payload(spec))
    tier.remove(spec.key)
    if settle:
        tier.settle()
    tier.close()
    count = 0
    for _ in range(40):
        after_power_cut(Image.empty(), files.log, rng).write_to(work / "state")
        with opened(work / "state") as cut:
            count += bool(cut.specs())
        shutil.rmtree(work / "state")
    return count


def test_what_was_removed_for_good_does_not_come_back(tmp_path: Path) -> None:
    (tmp_path / "settled").mkdir()
    assert times_back(tmp_path / "settled", settle=True) == 0
    (tmp_path / "not").mkdir()
    assert times_back(tmp_path / "not", settle=False) > 0
