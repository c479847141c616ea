"""How reports look on a console of 140 columns."""

import pytest

from hyperrag.commands.output import MOST_COLUMNS, print_tree

TIER = {"capacity_bytes": 64, "used_bytes": 8}


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_short_rows_are_lines_under_a_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_tree({"changes": [{"epoch": 1, "reason": "a joined"}, {"epoch": 2, "reason": "b left"}]})
    shown = lines(capsys)
    assert any("epoch" in line and "reason" in line for line in shown)
    assert any("2" in line and "b left" in line for line in shown)


def test_rows_with_much_to_say_are_columns(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {f"fact_{n}": n for n in range(MOST_COLUMNS)}
    print_tree({"nodes": [{"name": name, **facts, "dram": TIER} for name in ("one", "two")]})
    shown = lines(capsys)
    assert any("name" in line and "one" in line and "two" in line for line in shown)
    assert any("dram.capacity_bytes" in line and line.count("64") == 2 for line in shown)
    assert not any("{" in line or "…" in line for line in shown), "nothing is squeezed"


def test_a_part_of_which_nothing_is_used_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_tree({"nodes": [{"name": "one", "remote": dict.fromkeys(TIER, 0)}]})
    assert not any("remote" in line for line in lines(capsys))
