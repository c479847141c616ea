import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvstore.errors import CorruptSegmentError, StoreConfigError, TierUnavailableError
from kvstore.tiers import recovery, segment_object
from kvstore.tiers.folder import Folder
from kvstore.tiers.folder_lock import LOCK
from kvstore.tiers.medium import Listed
from kvstore.tiers.segment_files import new_name
from kvstore.tiers.segment_object import Stored
from kvstore.tiers.slow import SlowTier
from kvstore.tiers.store_folder import MARK
from kvstore.types import SegmentSpec
from tests.kvstore.media import read_segment
from tests.kvstore.segments import (
    chain_of,
    crcs_of,
    header_of_version,
    passage,
    payload,
    ssd_tier,
)


@pytest.fixture
def open_tier(tmp_path: Path) -> Iterator[Callable[[], SlowTier]]:
    """Opens the tier of one folder; the one before it is closed first."""
    tiers: list[SlowTier] = []

    def reopen() -> SlowTier:
        for tier in tiers:
            tier.close()
        tiers.append(ssd_tier(tmp_path / "ssd"))
        return tiers[-1]

    yield reopen
    for tier in tiers:
        tier.close()


def put(tier: SlowTier, spec: SegmentSpec) -> Path:
    tier.put(spec, memoryview(payload(spec)), crcs_of(spec))
    return file_of(tier, spec)


def folder_of(tier: SlowTier) -> Path:
    assert isinstance(tier._medium, Folder)
    return tier._medium._folder


def file_of(tier: SlowTier, spec: SegmentSpec) -> Path:
    (path,) = folder_of(tier).glob(f"?/?/{spec.key}.*")
    return path


def specs_of(tier: SlowTier) -> list[SegmentSpec]:
    entries = tier.keys()
    return [entry.spec for entry in entries]


def test_what_another_version_wrote_is_a_miss_and_leaves_no_damage(
    open_tier: Callable[[], SlowTier],
) -> None:
    tier, spec = open_tier(), chain_of([1])[0]
    file = put(tier, spec)
    file.write_bytes(header_of_version(spec, 1) + payload(spec))
    tier = open_tier()
    assert specs_of(tier) == [] and tier.used_bytes == 0 and tier.check() == []
    assert not file.exists() and not list(folder_of(tier).glob("quarantine/*"))
    file.write_bytes(header_of_version(spec, 1) + payload(spec))
    assert tier.find(spec.key) is None and not file.exists()


def test_a_restart_recovers_segments_and_their_order(open_tier: Callable[[], SlowTier]) -> None:
    tier, path = open_tier(), chain_of([1], [2], [3])
    for age, spec in enumerate(path):
        os.utime(put(tier, spec), (1000 - age, 1000 - age))
    used = tier.used_bytes
    tier = open_tier()
    assert specs_of(tier) == list(reversed(path))
    assert tier.used_bytes == used and tier.check() == []
    assert all(read_segment(tier, spec) == payload(spec) for spec in path)


def test_any_flipped_byte_of_a_file_is_detected(open_tier: Callable[[], SlowTier]) -> None:
    tier, spec = open_tier(), chain_of([1])[0]
    path = put(tier, spec)
    sound = path.read_bytes()
    for i in [*range(0, 4096, 37), *range(4096, len(sound))]:
        path.write_bytes(sound[:i] + bytes([sound[i] ^ 0x10]) + sound[i + 1 :])
        with pytest.raises(CorruptSegmentError):
            read_segment(tier, spec)
    path.write_bytes(sound)
    assert read_segment(tier, spec) == payload(spec)


@pytest.mark.parametrize("change", [-1, -5000, 1])
def test_a_torn_or_grown_file_is_detected(open_tier: Callable[[], SlowTier], change: int) -> None:
    tier, spec = open_tier(), chain_of(passage(1))[0]
    path = put(tier, spec)
    os.truncate(path, path.stat().st_size + change)
    with pytest.raises(CorruptSegmentError):
        read_segment(tier, spec)
    assert len(list(open_tier().keys())) == 0, "a restart does not trust it either"


def test_a_file_under_another_name_is_not_that_segment(open_tier: Callable[[], SlowTier]) -> None:
    tier, (one, two) = open_tier(), chain_of([1], [2])
    first, second = put(tier, one), put(tier, two)
    second.write_bytes(first.read_bytes())
    with pytest.raises(CorruptSegmentError, match="holds"):
        read_segment(tier, two)
    assert specs_of(open_tier()) == [one]


def test_what_was_being_written_is_gone_after_a_restart(open_tier: Callable[[], SlowTier]) -> None:
    tier = open_tier()
    leftover = folder_of(tier) / "tmp" / new_name(chain_of([1])[0].key)
    leftover.write_bytes(b"x")
    open_tier()
    assert not leftover.exists()


def test_the_same_key_twice_is_counted_once(open_tier: Callable[[], SlowTier]) -> None:
    tier, spec = open_tier(), chain_of([1])[0]
    path = put(tier, spec)
    (path.parent / new_name(spec.key)).write_bytes(path.read_bytes())
    tier = open_tier()
    assert len(list(tier.keys())) == 1 and tier.check() == [] and file_of(tier, spec)


def test_quarantine_is_bounded_in_files_and_bytes(open_tier: Callable[[], SlowTier]) -> None:
    tier = open_tier()
    for i in range(12):
        spec = chain_of([i])[0]
        put(tier, spec)
        file = tier.detach(spec.key)
        assert file is not None
        tier.discard(file, damaged=True)
    kept = list((folder_of(tier) / "quarantine").iterdir())
    assert len(kept) == 8 and sum(p.stat().st_size for p in kept) == tier.used_bytes <= 2**16
    assert tier.check() == []
    used, tier = tier.used_bytes, open_tier()
    assert tier.used_bytes == used
    big = chain_of(passage(99, 300))[0]
    put(tier, big)
    file = tier.detach(big.key)
    assert file is not None
    tier.discard(file, damaged=True)
    assert tier.used_bytes <= 2**16


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_failing_disk_leaves_no_trace_of_the_put(
    open_tier: Callable[[], SlowTier], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    tier, spec = open_tier(), chain_of([1])[0]

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    for call in ("write", "fsync", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(TierUnavailableError, match=os.strerror(code)):
                put(tier, spec)
        assert not tier.contains(spec.key) and tier.used_bytes == 0 and tier.check() == []
        assert not [
            p for p in folder_of(tier).rglob("*") if p.is_file() and p.name not in (LOCK, MARK)
        ]
    put(tier, spec)


def test_a_second_owner_is_refused_with_folder_and_remedy(
    open_tier: Callable[[], SlowTier], tmp_path: Path
) -> None:
    open_tier()
    with pytest.raises(StoreConfigError, match="another running store owns") as caught:
        ssd_tier(tmp_path / "ssd")
    assert str(tmp_path / "ssd") in str(caught.value) and "stop" in str(caught.value)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreConfigError, match="store.ssd_dir"):
        ssd_tier(tmp_path / "file" / "ssd")


def test_capacity_is_bounded_by_a_share_of_the_free_space(tmp_path: Path) -> None:
    stat = os.statvfs(tmp_path)
    tier = SlowTier(Folder(tmp_path / "ssd", 0), 2**60, 0.25)
    assert tier.capacity_bytes == pytest.approx(stat.f_bavail * stat.f_frsize * 0.25, rel=0.1)
    tier.close()


def test_a_file_that_vanished_is_a_miss(open_tier: Callable[[], SlowTier]) -> None:
    tier, spec = open_tier(), chain_of([1])[0]
    put(tier, spec).unlink()
    assert tier.check() != []
    assert tier.open(spec.key) is None
    assert tier.used_bytes == 0 and tier.check() == []


def test_what_a_reader_sets_aside_while_it_is_listed_is_not_recovered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found and given up between the listing and its entry into the books, deleted after that."""
    (spec,) = chain_of([1])
    before = ssd_tier(tmp_path)
    put(before, spec)
    before.close()
    tier = SlowTier(Folder(tmp_path, 2**16), 2**20)
    listing = tier._medium.list

    def list_while_a_reader_gives_up() -> list[Listed]:
        listed = list(listing())
        found = tier.find(spec.key)
        assert found is not None and tier.adopt(found) and tier.detach(spec.key) == found
        leaving.append(found)
        return listed

    leaving: list[Stored] = []
    monkeypatch.setattr(tier._medium, "list", list_while_a_reader_gives_up)
    recovered = [stored for stored in tier.recover() if tier.adopt(stored, recovered=True)]
    monkeypatch.undo()
    tier.discard(leaving[0])
    assert not recovered and not specs_of(tier) and tier.used_bytes == 0
    assert tier.check() == []
    tier.close()


def test_what_a_reader_adopted_meanwhile_is_not_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk gave recovery other bytes than the reader, who came between."""
    tier = ssd_tier(tmp_path / "ssd")
    spec = chain_of(passage(1))[0]
    tier.put(spec, memoryview(payload(spec)), crcs_of(spec))
    tier.close()
    again, found = SlowTier(Folder(tmp_path / "ssd", 2**16), 2**20), segment_object.identify

    def adopt_and_fail(*args: Any) -> Any:
        stored, _ = found(*args)
        assert again.adopt(stored)
        raise CorruptSegmentError(stored.name, "was read wrong")

    monkeypatch.setattr(recovery, "identify", adopt_and_fail)
    assert list(again.recover()) == []
    assert again.contains(spec.key) and again.check() == []
    again.close()
