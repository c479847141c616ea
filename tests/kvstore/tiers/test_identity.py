from pathlib import Path

from kvstore.tiers.identity import FILE, identity
from kvstore.tiers.store_folder import MARK
from tests.kvstore.segments import small_config


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
