"""The grid of sizes and its picture."""

from pathlib import Path

from tests.bench.rerank_sizes import Grid, draw, ideal


def test_the_grid_has_every_combination_once() -> None:
    points = Grid().points()
    assert len(points) == len(set(points)) == 36
    assert {len(set(axis)) for axis in zip(*points, strict=True)} == {3, 4}


def test_the_ideal_leaves_the_question_alone() -> None:
    assert ideal(256, 32) == 9
    assert ideal(0, 32) == 1


def test_the_picture_is_a_png_with_a_panel_for_each_question_length(tmp_path: Path) -> None:
    points = [
        {"passage": p, "question": q, "candidates": n, "ratio": 2.0, "ideal": ideal(p, q)}
        for p, q, n in Grid((128, 256), (16, 32), (10, 20)).points()
    ]
    draw(points, tmp_path / "sizes.png")
    draw(points[:1], tmp_path / "size.png")
    data = (tmp_path / "sizes.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert _width(data) > _width((tmp_path / "size.png").read_bytes())


def _width(png: bytes) -> int:
    return int.from_bytes(png[16:20], "big")
