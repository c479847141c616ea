from pathlib import Path

from hyperrag.commands.demo import _empty
from kvstore.tiers.folder import Folder


def test_segments_of_an_earlier_run_go_and_nobody_elses_files(tmp_path: Path) -> None:
    Folder(tmp_path / "segments", 0).close()
    _empty(tmp_path / "segments")
    assert not (tmp_path / "segments").exists()
    (tmp_path / "segments").mkdir()
    (tmp_path / "segments" / "thesis.tex").write_bytes(b"mine")
    _empty(tmp_path / "segments")
    assert (tmp_path / "segments" / "thesis.tex").read_bytes() == b"mine"
