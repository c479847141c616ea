import json
from pathlib import Path

import pytest

from kvstore.config import POLICIES
from kvstore.replay.__main__ import main

SMALL = ["zipf", "--requests", "150", "--dram", "0.2", "--ssd", "2"]


def test_all_policies_with_and_without_prefetch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, png = tmp_path / "rows.json", tmp_path / "arms.png"
    assert main([*SMALL, "--json", str(rows), "--png", str(png)]) == 0
    found = json.loads(rows.read_text())
    expected = [(p, False) for p in POLICIES] + [(p, True) for p in POLICIES]
    assert [(row["policy"], row["prefetch"]) for row in found] == expected
    assert found[0]["gain"] == 1.0 and found[-1]["gain"] > 1.2
    assert png.read_bytes().startswith(b"\x89PNG")
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(found)


def test_one_policy_is_compared_with_lru(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--policy", "pgdsf", "--no-prefetch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["policy", "lru", "pgdsf"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-file"], "No such file"),
        (["zipf", "--profile", "no-such-file"], "prefill_profile no-such-file"),
        ([__file__], "line 1: neither RAGPulse"),
    ],
)
def test_what_cannot_be_read_is_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_an_empty_trace_and_bad_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").touch()
    assert main([str(tmp_path / "empty")]) == 2
    assert "holds no request" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["zipf", "--dram", "0"])
    assert "--dram must be above 0" in capsys.readouterr().err
