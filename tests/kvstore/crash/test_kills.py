"""What a store acknowledged survives `kill -9` of its process."""

from pathlib import Path

from tests.kvstore.crash.kills import kill_often
from tests.kvstore.crash.lives import Verdict


def test_kills_lose_nothing_and_leave_nothing(tmp_path: Path) -> None:
    verdict = kill_often(3, 0, tmp_path)
    assert verdict == Verdict(states=3, acknowledged=verdict.acknowledged)
    assert verdict.acknowledged > 3
