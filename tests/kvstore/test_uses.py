import struct
from pathlib import Path

import crc32c
import pytest

from kvstore.policies.nodes import History
from kvstore.tiers.files import Files
from kvstore.types import TierName
from kvstore.uses import _MAX_BYTES, NAME, DamagedUsesError, Remembered, Uses, UsesFile
from tests.kvstore.segments import chain_of, passage

KEYS = [chain_of(passage(n))[0].key for n in range(3)]
TIERS: dict[TierName, list[Remembered]] = {
    "dram": [(KEYS[0], History(3, 0.5, 2))],
    "ssd": [(KEYS[1], History(2**40, 0.0, 0)), (KEYS[2], History(1, 1e-9, 2**32 - 1))],
}


def saved(folder: Path) -> UsesFile:
    made = UsesFile(folder, Files())
    made.save(TIERS)
    return made


def test_what_was_saved_is_loaded_in_its_order(tmp_path: Path) -> None:
    assert UsesFile(tmp_path, Files()).load() == Uses({})
    assert saved(tmp_path).load().tiers == TIERS
    assert (tmp_path / NAME).stat().st_size == 24 + 3 * 64 + 4


def test_what_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    made = saved(tmp_path)
    (tmp_path / NAME).unlink()
    made.save(TIERS)
    assert not (tmp_path / NAME).exists()


def test_every_damage_is_found(tmp_path: Path) -> None:
    made = saved(tmp_path)
    right = (tmp_path / NAME).read_bytes()
    for at in range(len(right)):
        (tmp_path / NAME).write_bytes(right[:at] + bytes([right[at] ^ 4]) + right[at + 1 :])
        with pytest.raises(DamagedUsesError):
            made.load()
        (tmp_path / NAME).write_bytes(right[:at])
        with pytest.raises(DamagedUsesError):
            made.load()


def test_a_count_that_does_not_fit_takes_no_memory(tmp_path: Path) -> None:
    head = struct.pack("<8sIId", b"HRUSES\0\0", 1, 2**32 - 1, 0.0)
    (tmp_path / NAME).write_bytes(head + struct.pack("<I", crc32c.crc32c(head)))
    with pytest.raises(DamagedUsesError):
        UsesFile(tmp_path, Files()).load()


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / NAME).open("wb") as file:
        file.truncate(_MAX_BYTES + 1)
    with pytest.raises(OSError, match="at most"):
        UsesFile(tmp_path, Files()).load()
