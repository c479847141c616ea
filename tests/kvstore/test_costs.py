import json
from pathlib import Path

import pytest

from kvstore.costs import PrefillProfile
from kvstore.errors import StoreConfigError

PROFILE = PrefillProfile((0, 100), (10, 20, 40), ((1.0, 2.0, 4.0), (3.0, 4.0, 6.0)))


@pytest.mark.parametrize(
    ("cached", "new", "seconds"),
    [(0, 10, 1.0), (0, 15, 1.5), (50, 10, 2.0), (50, 30, 4.0), (0, 5, 1.0), (500, 99, 6.0)],
)
def test_linear_between_the_points_and_clamped_at_the_edges(
    cached: int, new: int, seconds: float
) -> None:
    assert PROFILE.seconds(cached, new) == pytest.approx(seconds)


def test_the_default_grows_with_both() -> None:
    profile = PrefillProfile.default()
    assert profile.seconds(0, 100) < profile.seconds(0, 200) < profile.seconds(5000, 200)
    assert profile.seconds(0, 256) / 256 == pytest.approx(0.00087, rel=0.05)


def test_a_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    file.write_text(json.dumps({"cached": [0], "new": [1, 2], "grid": [[0.5, 1.0]]}))
    assert PrefillProfile.read(file).seconds(7, 2) == 1.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "needs JSON"),
        ("{}", "needs JSON with cached, new and grid"),
        ('{"cached": [1, 0], "new": [1], "grid": [[1], [1]]}', "rising numbers"),
        ('{"cached": [0], "new": [1], "grid": [[1, 2]]}', "a time for each of new"),
        ('{"cached": [0], "new": [1], "grid": [[0]]}', "above 0"),
        ('{"cached": [0], "new": [1], "grid": 7}', "needs JSON"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "profile.json"
    file.write_text(text)
    with pytest.raises(StoreConfigError, match=reason):
        PrefillProfile.read(file)
    with pytest.raises(StoreConfigError, match="No such file"):
        PrefillProfile.read(tmp_path / "absent.json")


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "-1"])
def test_a_profile_holds_finite_seconds(tmp_path: Path, seconds: str) -> None:
    file = tmp_path / "profile.json"
    file.write_text(f'{{"cached": [0], "new": [1], "grid": [[{seconds}]]}}')
    with pytest.raises(StoreConfigError, match="finite seconds"):
        PrefillProfile.read(file)


def test_a_profile_of_any_length_takes_little_memory(tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    with file.open("wb") as sparse:
        sparse.truncate(2**31)
    with pytest.raises(StoreConfigError, match="more than 4194304 characters"):
        PrefillProfile.read(file)
