"""Files that are not the store's, where it keeps its own: what becomes of them."""

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from kvstore.errors import KVStoreError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.bench.harness import Options
from tests.kvstore.segments import TRUNK, chain_of, passage, small_config, store_path

_TEXT = b"somebody else's"
_PATIENCE_S = 60.0


def measure(options: Options) -> tuple[dict[str, float], list[dict[str, object]]]:
    rows: list[dict[str, object]] = []
    for name, plant in _PLANTS.items():
        with TemporaryDirectory() as folder:
            rows.append({"what": f"foreign files: {name}", **_live_beside(Path(folder), plant)})
    touched = sum(int(str(row["touched"])) for row in rows)
    return {"foreign_files_touched": touched}, rows


def _live_beside(folder: Path, plant: Callable[[Path], None]) -> dict[str, object]:
    """A store starts there (or refuses to), writes, removes, checks with repair, and ends. One
    started before, so that its folders may be there."""
    _live(folder)
    plant(folder)
    before = _strangers(folder)
    answer = _live(folder)
    after = _strangers(folder)
    touched = sum(after.get(path) != was for path, was in before.items())
    return {"files": len(before), "touched": touched, "answer": answer}


def _live(folder: Path) -> str:
    config = small_config(
        folder, remote=f"file://{folder}/bucket", remote_timeout_s=_PATIENCE_S, ssd_bytes=2**18
    )
    try:
        store = KVStore(config, "node")
    except KVStoreError as error:
        return type(error).__name__
    paths = [chain_of(TRUNK, passage(n)) for n in range(40)]
    try:
        client = LocalStoreClient(store, config.dram_dir)
        store.flush(_PATIENCE_S)
        store_path(client, *paths)
        store.flush(_PATIENCE_S)
        store.remove_tags([path[-1].tag for path in paths[::2]])
        store.check(repair=True)
        client.close()
    except KVStoreError as error:
        return type(error).__name__
    finally:
        store.close()
    return "served"


def _write(path: Path, data: bytes = _TEXT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _in_tmp(folder: Path) -> None:
    for place in ("ssd/tmp", "ssd/quarantine", "bucket/tmp", "bucket/quarantine"):
        for name in ("letter.txt", "notes.segment", ".hidden"):
            _write(folder / place / name, _TEXT * 10_000)


def _beside_segments(folder: Path) -> None:
    for place in ("ssd", "ssd/a", "ssd/a/b", "bucket", "bucket/a/b"):
        _write(folder / place / "letter.txt")
        _write(folder / place / "other.segment")


def _behind_links(folder: Path) -> None:
    """Folders of the store's are links to a folder of somebody's."""
    for place in ("ssd/tmp", "ssd/quarantine", "ssd/3", "bucket/tmp", "bucket/quarantine"):
        target = folder / "theirs" / place.replace("/", "-")
        for name in ("key", "a.segment", "0123456789abcdef"):
            _write(target / name)
        link = folder / place
        if link.is_dir():
            _clear(link)
        link.symlink_to(target)


def _holders_link(folder: Path) -> None:
    """The folder of lock files is a link to a folder of somebody's."""
    for name in ("key", "0123456789abcdef"):
        _write(folder / "theirs" / name)
    link = folder / f"hyperrag-holders-{os.getuid()}"
    if link.is_dir():
        _clear(link)
    link.symlink_to(folder / "theirs")


def _arena_names(folder: Path) -> None:
    """Files whose names begin as an arena's does."""
    for name in ("hyperrag-store-notes.txt", "hyperrag-store-", "hyperrag-store-x"):
        _write(folder / name)


_PLANTS: Mapping[str, Callable[[Path], None]] = {
    "in tmp and quarantine": _in_tmp,
    "beside segments": _beside_segments,
    "behind links to folders": _behind_links,
    "behind a link to the holders' folder": _holders_link,
    "named as arenas begin": _arena_names,
}


def _strangers(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """What is not the store's, by path: its kind and mode, its time, its content."""
    found: dict[str, tuple[int, int, bytes]] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            status = path.lstat()
            data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            if data.startswith(_TEXT):
                found[str(path)] = (status.st_mode, status.st_mtime_ns, data)
    return found


def _clear(folder: Path) -> None:
    for parent, folders, names in os.walk(folder, topdown=False):
        for name in names:
            (Path(parent) / name).unlink()
        for name in folders:
            (Path(parent) / name).rmdir()
    folder.rmdir()
