"""Whose folder it is: what may be taken, and what is refused without being touched."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kvstore.errors import StoreConfigError
from kvstore.tiers.files import Files
from kvstore.tiers.folder import Folder
from kvstore.tiers.folder_lock import LOCK
from kvstore.tiers.segment_files import new_name
from kvstore.tiers.store_folder import MARK, StoreFolder
from tests.kvstore.crash.lives import verify
from tests.kvstore.crash.recording import Create, MakeFolder, RecordingFiles, Sync, SyncFolder
from tests.kvstore.crash.states import Image, after_power_cut
from tests.kvstore.crash.tier import OpenTier
from tests.kvstore.segments import chain_of, passage, payload

KEY = chain_of(passage(1))[0].key


def folder_of(path: Path) -> StoreFolder:
    return StoreFolder(path, "store.ssd_dir", wait_s=0.05)


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    held = folder_of(tmp_path / "a" / "b")
    with pytest.raises(StoreConfigError, match=r"store\.ssd_dir is .* another running store owns"):
        folder_of(tmp_path / "a" / "b")
    held.close()
    held.close()
    folder_of(tmp_path / "a" / "b").close()


def test_a_new_folder_is_private_and_marked_and_known_again(tmp_path: Path) -> None:
    Folder(tmp_path / "ssd", 0).close()
    assert (tmp_path / "ssd").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "ssd" / MARK).read_text().startswith("This folder belongs to a HyperRAG")
    Folder(tmp_path / "ssd", 0).close()


def test_a_folder_of_other_files_is_refused_and_nothing_in_it_changes(tmp_path: Path) -> None:
    for name in ("tmp", "quarantine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_bytes(b"mine")
        (tmp_path / name / new_name(KEY)).write_bytes(b"mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreConfigError, match="no file HYPERRAG-STORE.*name an empty folder"):
        Folder(tmp_path, 0)
    assert sorted(tmp_path.rglob("*")) == before


def _linked(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "ssd").symlink_to(tmp_path / "elsewhere")


def _below(name: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    """A folder of a store in which something stands in the place of `name`."""

    def made(tmp_path: Path) -> None:
        Folder(tmp_path / "ssd", 0).close()
        path = tmp_path / "ssd" / name
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        make(path)

    return made


def _link_out(path: Path) -> None:
    outside = path.parents[len(path.parts) - path.parts.index("ssd") - 1] / "outside"
    outside.mkdir()
    (outside / "thesis.tex").write_bytes(b"mine")
    path.symlink_to(outside)


REFUSED: dict[str, Callable[[Path], None]] = {
    "a link": _linked,
    "a file": lambda p: (p / "ssd").touch(),
    "a lock that is a link": _below(LOCK, _link_out),
    "a lock that is a folder": _below(LOCK, Path.mkdir),
    "a lock that is a FIFO": _below(LOCK, os.mkfifo),
    "a mark that is a link": _below(MARK, _link_out),
    "a mark that is a folder": _below(MARK, Path.mkdir),
    "tmp that is a link": _below("tmp", _link_out),
    "a quarantine that is a link": _below("quarantine", _link_out),
    "a folder of segments that is a link": _below("a", _link_out),
    "one below it that is a link": _below("a/b", _link_out),
    "a file in a folder's place": _below("c", Path.touch),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_leads_elsewhere_is_refused_and_not_followed(tmp_path: Path, kind: str) -> None:
    REFUSED[kind](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreConfigError, match=r"store\.ssd_dir is"):
        Folder(tmp_path / "ssd", 0)
    assert sorted(tmp_path.rglob("*")) == before


def test_only_own_files_are_emptied_trimmed_and_listed(tmp_path: Path) -> None:
    medium = Folder(tmp_path, 0)
    name = medium.write(KEY, b"header", memoryview(b"payload")).name
    medium.close()
    strangers = [
        path / stranger
        for path in (tmp_path / "tmp", tmp_path / "quarantine", (tmp_path / name).parent)
        for stranger in ("thesis.tex", ".hidden", f"{KEY}.segment", "x.segment")
    ]
    for path in strangers:
        path.write_bytes(b"mine")
    (tmp_path / "key").write_bytes(b"mine")
    links = [tmp_path / folder / new_name(KEY) for folder in ("tmp", "quarantine")]
    for link in links:
        link.symlink_to(tmp_path / "key")
    ours = [tmp_path / folder / new_name(KEY) for folder in ("tmp", "quarantine")]
    for path in ours:
        path.write_bytes(b"ours")
    medium = Folder(tmp_path, 0)
    assert not any(path.exists() for path in ours), "emptied, and trimmed to nothing"
    assert [listed.name for listed in medium.list()] == [name] and medium.aside_bytes == 0
    assert all(path.read_bytes() == b"mine" for path in (*strangers, *links))
    for path in (*strangers, *links):
        if path.parent.name == "quarantine":
            continue
        with pytest.raises(PermissionError):
            medium.delete(str(path.relative_to(tmp_path)))
    assert all(path.read_bytes() == b"mine" for path in (*strangers, *links))
    medium.close()


class FailingFiles(Files):
    def unlink(self, path: Path) -> None:
        raise RuntimeError("a bug")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_folder_whose_start_failed_can_be_taken_again(tmp_path: Path) -> None:
    Folder(tmp_path, 0).close()
    (tmp_path / "tmp" / new_name(KEY)).write_bytes(b"x")
    fds = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(RuntimeError, match="a bug"):
            Folder(tmp_path, 0, FailingFiles())
    (tmp_path / "a").symlink_to(tmp_path)
    for _ in range(3):
        with pytest.raises(StoreConfigError, match="is no folder"):
            Folder(tmp_path, 0)
    (tmp_path / "a").unlink()
    assert len(os.listdir("/proc/self/fd")) == fds
    Folder(tmp_path, 0).close()


def test_the_mark_lasts_before_anything_else_is_made(tmp_path: Path) -> None:
    files = RecordingFiles(tmp_path)
    Folder(tmp_path, 0, files).close()
    mark = files.log.index(SyncFolder(""))
    assert files.log[0] == Create(MARK, 0) and Sync(0) in files.log[:mark]
    assert mark < min(files.log.index(MakeFolder(name)) for name in ("tmp", "quarantine"))


def test_a_power_cut_during_the_first_start_shuts_nobody_out(tmp_path: Path) -> None:
    spec, rng, empty = chain_of(passage(1))[0], random.Random(0), Image(frozenset(), {})
    files = RecordingFiles(tmp_path / "life")
    tier = OpenTier(tmp_path / "life", files)
    tier.put(spec, payload(spec))
    tier.close()
    for _ in range(60):
        log = files.log[: rng.randint(0, len(files.log))]
        after_power_cut(empty, log, rng).write_to(tmp_path / "state")
        verdict = verify(tmp_path / "state", ())
        assert verdict.partial == verdict.unbalanced == 0
        shutil.rmtree(tmp_path / "state")


@pytest.mark.parametrize("gone", ["tmp", ".", "below", "quarantine"])
def test_a_folder_that_was_removed_is_made_anew_by_the_next_write(
    tmp_path: Path, gone: str
) -> None:
    medium = Folder(tmp_path / "ssd", 2**20)
    name = medium.write(KEY, b"header", memoryview(b"payload")).name
    shutil.rmtree(tmp_path / "ssd" / (name[0] if gone == "below" else gone))
    name = medium.write(KEY, b"header", memoryview(b"payload")).name
    assert name in [listed.name for listed in medium.list()]
    medium.set_aside(name)
    assert medium.aside_bytes == 13 and name not in [listed.name for listed in medium.list()]
    with pytest.raises(StoreConfigError, match="another running store owns"):
        Folder(tmp_path / "ssd", 0)
    medium.close()
    Folder(tmp_path / "ssd", 2**20).close()


def test_a_folder_that_another_store_took_meanwhile_is_left_to_it(tmp_path: Path) -> None:
    first = Folder(tmp_path / "ssd", 0)
    shutil.rmtree(tmp_path / "ssd")
    second = Folder(tmp_path / "ssd", 0)
    shutil.rmtree(tmp_path / "ssd" / "tmp")
    with pytest.raises(OSError, match="another running store owns"):
        first.write(KEY, b"header", memoryview(b"payload"))
    assert second.write(KEY, b"header", memoryview(b"payload"))
    first.close()
    second.close()
