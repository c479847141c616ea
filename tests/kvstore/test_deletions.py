import errno
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kvstore import deletions
from kvstore.deletions import NAME, DamagedListError, Deletion, DeletionList
from kvstore.tiers.faults import Fault, FaultyFiles
from kvstore.tiers.files import Files
from tests.kvstore.crash.recording import RecordingFiles, Sync, SyncFolder
from tests.kvstore.segments import chain_of, passage

SPECS = [chain_of(passage(n))[0] for n in range(4)]
FIRST = Deletion("ssd", 1, (SPECS[0].tag,), (SPECS[0].key, SPECS[1].key))
SECOND = Deletion("remote", 1, (SPECS[2].tag, SPECS[3].tag), ())
THIRD = Deletion("ssd", 2, (SPECS[1].tag,), ())


def loaded(folder: Path) -> list[Deletion]:
    return DeletionList(folder, Files()).load()


def unversioned(*entries: Deletion) -> list[Deletion]:
    return [replace(entry, version=0) for entry in entries]


def recorded(folder: Path, entries: Sequence[Deletion], files: Files | None = None) -> DeletionList:
    made = DeletionList(folder, files or Files())
    for entry in entries:
        made.record([entry])
    return made


def test_what_was_recorded_is_found_after_a_restart(tmp_path: Path) -> None:
    assert loaded(tmp_path) == []
    recorded(tmp_path, [FIRST, SECOND, THIRD])
    assert loaded(tmp_path) == unversioned(FIRST, SECOND, THIRD)
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


def test_it_is_on_the_disk_when_the_call_returns(tmp_path: Path) -> None:
    files = RecordingFiles(tmp_path)
    made = recorded(tmp_path, [FIRST], files)
    assert files.log[-1] == SyncFolder("")
    files.log.clear()
    made.record([SECOND])
    assert [type(event).__name__ for event in files.log] == ["Append", "Write", "Sync"]
    assert isinstance(files.log[-1], Sync)


def test_ended_ones_are_gone_and_others_stay(tmp_path: Path) -> None:
    made = recorded(tmp_path, [FIRST, SECOND, THIRD])
    made.end("ssd", 1)
    assert loaded(tmp_path) == unversioned(SECOND, THIRD)
    made.end("ssd", 2)
    made.end("remote", 1)
    assert loaded(tmp_path) == [] and (tmp_path / NAME).stat().st_size == 16
    made.record([THIRD])
    assert loaded(tmp_path) == [], "the tier made it before it could be noted"


def test_a_predecessors_are_kept_until_they_end(tmp_path: Path) -> None:
    recorded(tmp_path, [FIRST, SECOND])
    made = DeletionList(tmp_path, Files())
    made.keep([replace(entry, version=1) for entry in made.load()])
    made.record([THIRD])
    assert loaded(tmp_path) == unversioned(FIRST, SECOND, THIRD)
    made.end("ssd", 1)
    assert loaded(tmp_path) == unversioned(SECOND, THIRD)


def test_a_record_that_was_cut_short_was_never_acknowledged(tmp_path: Path) -> None:
    recorded(tmp_path, [FIRST, SECOND])
    data = (tmp_path / NAME).read_bytes()
    start = len(deletions._header() + deletions.encode(FIRST))
    for size in range(start, len(data)):
        (tmp_path / NAME).write_bytes(data[:size])
        assert loaded(tmp_path) == unversioned(FIRST)


def test_any_other_damage_is_noticed(tmp_path: Path) -> None:
    recorded(tmp_path, [FIRST, SECOND])
    data = (tmp_path / NAME).read_bytes()
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        (tmp_path / NAME).write_bytes(damaged)
        with pytest.raises(DamagedListError):
            loaded(tmp_path)


def test_a_disk_that_is_full_fails_the_record_and_spoils_none(tmp_path: Path) -> None:
    files = FaultyFiles([Fault.parse("write enospc at 2")])
    made = recorded(tmp_path, [FIRST], files)
    with pytest.raises(OSError, match="No space"):
        made.record([SECOND])
    made.record([THIRD])
    assert loaded(tmp_path) == unversioned(FIRST, THIRD)


def test_it_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recorded(tmp_path, [FIRST])
    monkeypatch.setattr(deletions, "MAX_BYTES", (tmp_path / NAME).stat().st_size)
    with pytest.raises(OSError) as full:
        made.record([SECOND])
    assert full.value.errno == errno.ENOSPC and loaded(tmp_path) == unversioned(FIRST)
    with (tmp_path / NAME).open("ab") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(OSError) as huge:
        loaded(tmp_path)
    assert huge.value.errno == errno.EFBIG
