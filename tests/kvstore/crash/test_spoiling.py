"""No damage to a file at rest is ever read, and a tier without checksums is caught."""

from collections.abc import Callable
from pathlib import Path

import crc32c
import pytest

from tests.kvstore.crash.damage import KINDS
from tests.kvstore.crash.spoiling import Spoiled, spoil_closed, spoil_open

Spoil = Callable[[int, int, Path], Spoiled]


@pytest.mark.parametrize(("spoil", "count"), [(spoil_open, 5000), (spoil_closed, 600)])
def test_every_damage_is_noticed(tmp_path: Path, spoil: Spoil, count: int) -> None:
    spoiled = spoil(count, 0, tmp_path)
    assert spoiled.damages.total() == count and set(spoiled.damages) == set(KINDS)
    assert spoiled.undetected.total() == 0, spoiled.undetected


@pytest.mark.parametrize("spoil", [spoil_open, spoil_closed])
def test_without_checksums_wrong_bytes_are_read(
    tmp_path: Path, spoil: Spoil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crc32c, "crc32c", lambda data, seed=0: 0)
    undetected = spoil(400, 0, tmp_path).undetected
    for kind in ("bit flip in the payload", "layers swapped", "sectors of another version"):
        assert undetected[kind] > 0, kind
