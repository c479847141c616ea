"""`check` names every kind of damage that is planted, and with `repair` mends it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kvstore.codec import header_nbytes
from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.tiers.faults import Fault
from kvstore.types import SegmentSpec
from tests.kvstore.media import disk_of
from tests.kvstore.segments import (
    TRUNK,
    assert_balanced,
    assert_right_bytes,
    bytes_of,
    chain_of,
    compute,
    passage,
    small_config,
)

PATH = chain_of(TRUNK, passage(1), passage(2))
VICTIM, OTHER = PATH[1], PATH[2]
HEADER = header_nbytes(VICTIM.layout.num_layers)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def swap_layers(path: Path) -> None:
    data, size = path.read_bytes(), VICTIM.layout.layer_nbytes
    first, second = data[HEADER : HEADER + size], data[HEADER + size : HEADER + 2 * size]
    path.write_bytes(data[:HEADER] + second + first + data[HEADER + 2 * size :])


def grow(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 512)


def plant_copy(path: Path) -> None:
    """As a store that did not end its write would leave it."""
    path.with_name(f"{VICTIM.key}.00c0ffee.segment").write_bytes(path.read_bytes())


FILE_DAMAGES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "flip in the payload": (lambda p: flip(p, HEADER + 5000), str(VICTIM.key), "layer 1 has"),
    "flip in the header": (lambda p: flip(p, 30), str(VICTIM.key), "header with a wrong checksum"),
    "flip in its padding": (lambda p: flip(p, 2000), str(VICTIM.key), "wrong checksum"),
    "truncated": (lambda p: os.truncate(p, 6000), str(VICTIM.key), "6000 bytes, expected"),
    "grown": (grow, str(VICTIM.key), "bytes, expected"),
    "layers swapped": (swap_layers, str(VICTIM.key), "layer 0 has checksum"),
    "gone": (Path.unlink, str(VICTIM.key), "is gone"),
    "a copy beside it": (plant_copy, f"{VICTIM.key}.00c0ffee.segment", "no segment of this store"),
}
"""What is done to the victim's file, then what a line has to name and to say."""


@pytest.fixture
def filled(store: KVStore, client: LocalStoreClient) -> KVStore:
    client.release(compute(client, PATH).lease_id)
    assert store.flush(5)
    return store


def file_of(config: StoreConfig, spec: SegmentSpec) -> Path:
    (path,) = Path(config.ssd_dir).glob(f"?/?/{spec.key}.*")
    return path


def assert_named_and_mended(store: KVStore, tier: str, name: str, wrong: str) -> None:
    """Twice, because looking changes nothing of what is wrong on the disk."""
    for repair in (False, True):
        problems = store.check(repair).problems
        named = [line for line in problems if line.startswith(f"{tier}: ")]
        assert problems and any(name in line and wrong in line for line in named), problems
    assert_balanced(store)


@pytest.mark.parametrize("kind", FILE_DAMAGES)
def test_a_damaged_file_is_named_and_mended(
    filled: KVStore, client: LocalStoreClient, config: StoreConfig, kind: str
) -> None:
    damage, name, wrong = FILE_DAMAGES[kind]
    damage(file_of(config, VICTIM))
    if kind == "gone":  # to look at it is to know it: it is a miss from then on
        (line,) = filled.check().problems
        assert line.startswith("ssd: ") and name in line and wrong in line
        assert_balanced(filled)
    else:
        assert_named_and_mended(filled, "ssd", name, wrong)
    assert_right_bytes(client, compute(client, PATH))


def test_a_strangers_file_is_named_and_left_alone(filled: KVStore, config: StoreConfig) -> None:
    below = file_of(config, VICTIM).parent
    top = Path(config.ssd_dir)
    strangers = [top / "tmp" / "download.part", below / "thesis.segment", top / "notes.txt"]
    strangers.append(top / "quarantine" / "foo")
    (top / "more").mkdir()
    link = below / file_of(config, VICTIM).name.replace(".segment", "0.segment")
    for stranger in strangers:
        stranger.write_bytes(b"mine")
    link.symlink_to(strangers[0])
    for repair in (False, True, False):
        report = filled.check(repair)
        assert len(report.problems) == 6 and report.repaired == 0
        for path in (*strangers, link, top / "more"):
            assert any(path.name in line for line in report.problems)
    assert [path.read_bytes() for path in (*strangers, link)] == [b"mine"] * 5


def test_swapped_files_are_both_named_and_mended(filled: KVStore, config: StoreConfig) -> None:
    one, two = file_of(config, VICTIM), file_of(config, OTHER)
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)
    lines = [line for line in filled.check(repair=True).problems if line.startswith("ssd: ")]
    for path, spec in ((one, OTHER), (two, VICTIM)):
        assert any(f"{path.name} holds {spec.key}" in line for line in lines), lines
    assert_balanced(filled)


def test_a_byte_that_changed_in_memory_is_named_and_mended(
    store: KVStore, client: LocalStoreClient
) -> None:
    acquired = compute(client, PATH)
    assert store.flush(5)
    bytes_of(store, acquired, VICTIM.key)[5] ^= 1
    assert_named_and_mended(store, "dram", str(VICTIM.key), "layer 0 has checksum")
    client.release(acquired.lease_id)
    again = client.acquire([PATH], 5)
    assert again.hits[VICTIM.key].tier == "ssd"
    assert_right_bytes(client, again)


@pytest.mark.parametrize("fault", ["open eio", "read eio"])
def test_what_could_not_be_read_is_named_apart_and_stays(tmp_path: Path, fault: str) -> None:
    config = small_config(tmp_path, faults=("read delay 0",))
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    client.release(compute(client, PATH).lease_id)
    assert store.flush(5)
    disk, files = disk_of(store), {str(spec.key): file_of(config, spec) for spec in PATH}
    disk.fail_with([Fault.parse(fault)])
    report = store.check(repair=True)
    assert report.problems == () and report.repaired == 0
    assert len(report.unchecked) == len(PATH)
    for line in report.unchecked:
        assert "cannot be read" in line and any(key in line for key in files)
    disk.heal()
    assert all(path.exists() for path in files.values()) and store.check().ok
    flip(files[str(VICTIM.key)], HEADER)
    report = store.check(repair=True)
    assert len(report.problems) == report.repaired == 1 and report.unchecked == ()
    assert not files[str(VICTIM.key)].exists() and files[str(OTHER.key)].exists()
    client.close()
    store.close()


def test_everything_at_once_is_counted(filled: KVStore, config: StoreConfig) -> None:
    flip(file_of(config, VICTIM), HEADER)
    file_of(config, OTHER).unlink()
    plant_copy(file_of(config, VICTIM))
    report = filled.check(repair=True)
    assert len(report.problems) == 3 and report.repaired == 3
    assert_balanced(filled)
