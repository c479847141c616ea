import os
import stat
from pathlib import Path

import pytest

from kvstore.tiers.local_place import LocalPlace


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "new/base"


@pytest.fixture
def place(base: Path) -> LocalPlace:
    return LocalPlace(base)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder of somebody else, with a file that must stay as it is."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "thesis").write_text("of somebody")
    return folder


def test_files_and_folders_are_their_owners_alone(place: LocalPlace, base: Path) -> None:
    before = os.umask(0)
    try:
        place.write("ab/cd/file", [b"data"])
        place.mark("MARK", b"text")
    finally:
        os.umask(before)
    modes = {str(p.relative_to(base)): stat.S_IMODE(p.stat().st_mode) for p in base.rglob("*")}
    assert modes == {"ab": 0o700, "ab/cd": 0o700, "ab/cd/file": 0o600, "MARK": 0o600}
    assert stat.S_IMODE(base.stat().st_mode) == 0o700


def test_a_linked_folder_is_not_followed(place: LocalPlace, base: Path, elsewhere: Path) -> None:
    base.mkdir(parents=True)
    (base / "ab").symlink_to(elsewhere)
    assert place.files("ab") == [] and place.folders() == [] and not place.exists("ab/thesis")
    for call in (
        lambda: place.open("ab/thesis"),
        lambda: place.write("ab/other", [b"data"]),
        lambda: place.move("ab/thesis", "stolen"),
    ):
        with pytest.raises(OSError):
            call()
    place.delete("ab/thesis")
    assert [path.name for path in elsewhere.iterdir()] == ["thesis"]
    assert (elsewhere / "thesis").read_text() == "of somebody"


def test_a_linked_file_or_a_pipe_is_no_object(
    place: LocalPlace, base: Path, elsewhere: Path
) -> None:
    place.write("ab/file", [b"data"])
    (base / "ab/link").symlink_to(elsewhere / "thesis")
    os.mkfifo(base / "ab/pipe")
    assert [found.path for found in place.files("ab")] == ["ab/file"]
    for name in ("link", "pipe"):
        assert not place.exists(f"ab/{name}")
        with pytest.raises(FileNotFoundError):
            place.open(f"ab/{name}")
    place.delete("ab/link")
    assert (elsewhere / "thesis").read_text() == "of somebody"


def test_folders_that_go_on_and_on_are_not_followed_down(place: LocalPlace, base: Path) -> None:
    place.write("ab/cd/file", [b"data"])
    base.joinpath("ab/cd", *["deep"] * 500).mkdir(parents=True)
    assert [found.path for found in place.files("ab", with_folders=True)] == ["ab/cd/file"]


def test_a_write_replaces_no_name(place: LocalPlace, base: Path, elsewhere: Path) -> None:
    place.write("ab/file", [b"data"])
    (base / "ab/link").symlink_to(elsewhere / "thesis")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            place.write(f"ab/{name}", [b"other"])
    assert (elsewhere / "thesis").read_text() == "of somebody"
