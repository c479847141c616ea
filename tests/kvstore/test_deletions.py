import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kvstore import deletions
from kvstore.deletion_records import MARK, Deletion, encode, header
from kvstore.deletions import ASIDE, NAME, DeletionList
from kvstore.tiers.faults import Fault, FaultyFiles
from kvstore.tiers.files import Files
from tests.kvstore.crash.recording import RecordingFiles, SyncFolder
from tests.kvstore.segments import chain_of, passage

SPECS = [chain_of(passage(n))[0] for n in range(4)]
FIRST = Deletion("ssd", 1, (SPECS[0].tag,), (SPECS[0].key, SPECS[1].key))
SECOND = Deletion("remote", 1, (SPECS[2].tag, SPECS[3].tag), ())
THIRD = Deletion("ssd", 2, (SPECS[1].tag,), ())


def loaded(folder: Path) -> list[Deletion]:
    found = DeletionList(folder, Files()).load()
    assert found.damage == ""
    return list(found.deletions)


def unversioned(*entries: Deletion) -> list[Deletion]:
    return [replace(entry, version=0) for entry in entries]


def recorded(folder: Path, entries: Sequence[Deletion], files: Files | None = None) -> DeletionList:
    made = DeletionList(folder, files or Files())
    made.keep([])
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
    assert [type(event).__name__ for event in files.log] == ["Append", "Write", "Sync", "Write"]


def test_ended_ones_are_gone_and_others_stay(tmp_path: Path) -> None:
    made = recorded(tmp_path, [FIRST, SECOND, THIRD])
    made.end("ssd", 1)
    assert loaded(tmp_path) == unversioned(SECOND, THIRD)
    made.end("ssd", 2)
    made.end("remote", 1)
    assert loaded(tmp_path) == [] and (tmp_path / NAME).stat().st_size == 24
    made.record([THIRD])
    assert loaded(tmp_path) == [], "the tier made it before it could be noted"


def test_a_predecessors_are_kept_until_they_end(tmp_path: Path) -> None:
    recorded(tmp_path, [FIRST, SECOND])
    made = DeletionList(tmp_path, Files())
    made.keep([replace(entry, version=1) for entry in made.load().deletions])
    made.record([THIRD])
    assert loaded(tmp_path) == unversioned(FIRST, SECOND, THIRD)
    made.end("ssd", 1)
    assert loaded(tmp_path) == unversioned(SECOND, THIRD)


def test_a_record_that_was_cut_short_was_never_acknowledged(tmp_path: Path) -> None:
    recorded(tmp_path, [FIRST, SECOND])
    data = (tmp_path / NAME).read_bytes()
    start, end = len(header() + encode(FIRST)), len(data) - len(MARK)
    for size in range(start, end):
        (tmp_path / NAME).write_bytes(data[:size])
        assert loaded(tmp_path) == unversioned(FIRST)
    for rest in (data[end : end + 3], b"junk" * 9, bytes(100), encode(THIRD)[:-1] + b"?", MARK[1:]):
        (tmp_path / NAME).write_bytes(data[:end] + rest)
        assert loaded(tmp_path) == unversioned(FIRST, SECOND)


def test_any_other_damage_is_noticed_and_what_is_whole_is_kept(tmp_path: Path) -> None:
    recorded(tmp_path, [FIRST, SECOND])
    data = (tmp_path / NAME).read_bytes()
    first = len(header()), len(header() + encode(FIRST))
    second = first[1] + len(MARK), len(data) - len(MARK)
    for at in range(second[1]):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        (tmp_path / NAME).write_bytes(damaged)
        found = DeletionList(tmp_path, Files()).load()
        ranges = {FIRST: range(*first), SECOND: range(*second)}
        whole = [entry for entry, own in ranges.items() if at not in own]
        assert found.damage and list(found.deletions) == unversioned(*whole)


def test_a_damaged_list_is_set_aside_when_the_ssd_is_empty(tmp_path: Path) -> None:
    recorded(tmp_path, [FIRST, SECOND])
    data = bytearray((tmp_path / NAME).read_bytes())
    data[30] ^= 1
    (tmp_path / NAME).write_bytes(data)
    made = DeletionList(tmp_path, Files())
    assert not made.is_lossy
    made.keep([replace(entry, version=1) for entry in made.load().deletions])
    assert made.is_lossy and not (tmp_path / ASIDE).exists()
    with pytest.raises(OSError, match="damaged at byte 16"):
        made.record([THIRD])
    made.end("remote", 0)
    assert (tmp_path / NAME).read_bytes() == data, "the SSD still has something"
    made.end("ssd", 1)
    assert loaded(tmp_path) == unversioned(SECOND) and (tmp_path / ASIDE).read_bytes() == data
    made.record([THIRD])
    assert loaded(tmp_path) == unversioned(SECOND, THIRD)
    assert made.is_lossy, "until an operator removes what was set aside"
    (tmp_path / ASIDE).unlink()
    assert not made.is_lossy


@pytest.mark.parametrize("kind", ["folder", "link", "fifo"])
def test_what_is_no_file_is_damage(tmp_path: Path, kind: str) -> None:
    path = tmp_path / NAME
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(path)
    found = DeletionList(tmp_path, Files()).load()
    assert found.damage and found.deletions == ()


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
    anew = DeletionList(tmp_path, Files())
    anew.keep([FIRST])
    with pytest.raises(OSError, match="has its"):
        anew.record([SECOND])
    with (tmp_path / NAME).open("ab") as file:
        file.truncate(2**40)  # sparse
    assert "at most" in DeletionList(tmp_path, Files()).load().damage
