from pathlib import Path

import pytest

from actors.errors import UnavailableError
from actors.retrieval.lock import LOCK, WriterLock


def test_one_writer_at_a_time_and_the_other_is_told_who(tmp_path: Path) -> None:
    first = WriterLock(tmp_path / "corpus")
    with pytest.raises(UnavailableError, match=r"another corpus writer \(process \d+\)"):
        WriterLock(tmp_path / "corpus")
    first.release()
    WriterLock(tmp_path / "corpus").release()


def test_a_planted_link_is_not_written_through(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"private key")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / LOCK).symlink_to(key)
    with pytest.raises(UnavailableError, match="corpus"):
        WriterLock(tmp_path / "corpus")
    assert key.read_bytes() == b"private key"
