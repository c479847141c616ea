import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from kvstore.tiers import birth
from kvstore.tiers.identity import FILE, identity
from kvstore.tiers.store_folder import MARK
from tests.kvstore.segments import small_config
from tests.kvstore.tmpfs import make_volume, mounted

COPIES = {
    "cp -a": ["cp", "-a"],
    "cp -al": ["cp", "-al"],
    "tar": ["sh", "-c", 'mkdir "$2" && tar -C "$1" -cf - . | tar -C "$2" -xpf -', "sh"],
}


def identity_in(folder: Path) -> bytes:
    return identity(small_config(folder.parent, ssd_dir=str(folder)), "node")


def make_folder(folder: Path) -> Path:
    _make_folder(str(folder))
    return folder


def _make_folder(path: str) -> None:
    Path(path).mkdir()
    (Path(path) / MARK).touch()


def test_an_identity_lasts_in_the_folder_and_is_its_own(tmp_path: Path) -> None:
    stores = [small_config(tmp_path, ssd_dir=str(tmp_path / name)) for name in ("one", "two")]
    for store in stores:
        _make_folder(store.ssd_dir)
    one, two = (identity(store, "node") for store in stores)
    assert one != two and len(one) == len(two) == 8
    assert identity(stores[0], "another name") == one
    path = Path(stores[0].ssd_dir) / FILE
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_makes_a_new_identity(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    _make_folder(config.ssd_dir)
    one, path = identity(config, "node"), Path(config.ssd_dir) / FILE
    path.write_text(one.hex()[:10])
    two = identity(config, "node")
    assert two != one and identity(config, "node") == two
    leftover = path.with_name(f"{FILE}.new")
    leftover.write_text("of one that was killed")
    path.unlink()
    assert identity(config, "node") not in (one, two) and not leftover.exists()


def test_without_an_ssd_it_follows_from_what_is_stable(tmp_path: Path) -> None:
    one = small_config(tmp_path / "one", ssd_dir="")
    two = small_config(tmp_path / "two", ssd_dir="")
    assert identity(one, "node") == identity(one, "node")
    assert len({identity(one, "a"), identity(one, "b"), identity(two, "a")}) == 3


def test_a_folder_that_takes_no_file_costs_the_identity_and_not_the_start(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    Path(config.ssd_dir).mkdir()  # no mark: its disk was full
    assert len(identity(config, "node")) == 8 and not list(Path(config.ssd_dir).iterdir())


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("births", [True, False])
def test_a_copy_draws_an_identity_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, births: bool
) -> None:
    if not births:  # as on a file system that keeps none
        monkeypatch.setattr(birth, "_statx", None)
    one = identity_in(make_folder(tmp_path / "one"))
    subprocess.run([*COPIES[how], tmp_path / "one", tmp_path / "two"], check=True)
    copied = (tmp_path / "two" / FILE).read_bytes()
    assert copied == (tmp_path / "one" / FILE).read_bytes()
    two = identity_in(tmp_path / "two")
    assert two != one and identity_in(tmp_path / "two") == two
    assert identity_in(tmp_path / "one") == one


def test_a_copy_of_the_file_alone_counts_nowhere(tmp_path: Path) -> None:
    one, two = make_folder(tmp_path / "one"), make_folder(tmp_path / "two")
    first, second = identity_in(one), identity_in(two)
    shutil.copy2(one / FILE, two / FILE)
    assert identity_in(two) not in (first, second)


def test_it_lasts_in_a_container_that_sees_the_folder_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another name, under another path, with another owner's rights and times."""
    one = identity_in(make_folder(tmp_path / "one"))
    monkeypatch.setattr(socket, "gethostname", lambda: "pod-2")
    (tmp_path / "one").rename(tmp_path / "two")
    for path in (tmp_path / "two", tmp_path / "two" / FILE):
        path.chmod(0o770)
        os.chown(path, -1, -1)
        os.utime(path, (0, 0))
    assert identity_in(tmp_path / "two") == one


def test_it_lasts_over_a_remount_as_another_device_and_not_on_another_volume(
    tmp_path: Path,
) -> None:
    """New volumes number their files alike."""
    images = tmp_path / "one.img", tmp_path / "two.img"
    for image in images:
        make_volume(image)
    with mounted(images[0], tmp_path / "a") as at:
        one, facts = identity_in(make_folder(at / "ssd")), (at / "ssd").stat()
        shutil.copytree(at / "ssd", tmp_path / "saved")
    with mounted(images[1], tmp_path / "b") as other:
        with mounted(images[0], tmp_path / "a") as at:
            assert (at / "ssd").stat().st_dev != facts.st_dev
            assert identity_in(at / "ssd") == one
        shutil.copytree(tmp_path / "saved", other / "ssd")
        assert (other / "ssd").stat().st_ino == facts.st_ino
        assert (other / "ssd").stat().st_dev == facts.st_dev
        assert identity_in(other / "ssd") != one
