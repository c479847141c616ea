"""`check` of a slow tier that hangs, or takes its time."""

import threading
from collections.abc import Iterator

import pytest

from kvstore.config import StoreConfig
from kvstore.errors import StoreUnavailableError
from kvstore.types import CheckReport
from tests.kvstore.segments import assert_right_bytes
from tests.kvstore.store.streaming import LAYERS, PATHS, Disk
from tests.kvstore.waiting import eventually

TOO_LONG_S = 30.0
NUM = len(PATHS) + 1


@pytest.fixture
def disk(config: StoreConfig) -> Iterator[Disk]:
    disk = Disk(config, read_timeout_s=0.2)
    yield disk
    disk.close()


class Checking:
    """A check on a thread of its own, as a shard has it."""

    def __init__(self, disk: Disk) -> None:
        self.report: CheckReport | None = None
        self.is_refused = False
        self._disk = disk
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> "Checking":
        self._thread.join(TOO_LONG_S)
        assert not self._thread.is_alive(), "check hangs"
        return self

    @property
    def unchecked(self) -> str:
        report = self.join().report
        assert report is not None
        (line,) = report.unchecked
        return line

    def _run(self) -> None:
        try:
            self.report = self._disk.store.check()
        except StoreUnavailableError:
            self.is_refused = True


def test_a_tier_that_hangs_is_left_alone_and_named(disk: Disk) -> None:
    disk.gate.allow(LAYERS)  # a header, and all layers but one
    checking = Checking(disk)
    assert checking.unchecked == "ssd: left alone: it gave nothing for 0.2 s"
    assert checking.report and checking.report.segments_checked == 0
    assert checking.report.problems == (), "what was not looked at is not known to be wrong"
    assert Checking(disk).unchecked == "ssd: not looked at: a call to it hangs"
    disk.gate.allow()
    assert eventually(lambda: not disk.store.check().unchecked, TOO_LONG_S), "it is back"
    report = disk.store.check()
    assert report.ok and report.segments_checked == NUM
    assert_right_bytes(disk.client, disk.client.acquire(PATHS, 10))


def test_what_a_check_left_behind_changes_nothing(disk: Disk) -> None:
    disk.spoil(PATHS[0][0], 0)
    unchecked = [disk.store.check(repair=True).unchecked for _ in range(2)]
    assert all(unchecked)
    disk.gate.allow()
    assert eventually(lambda: not disk.store.check().unchecked, TOO_LONG_S)
    assert len(disk.store.check().problems) == 1, "it was not repaired behind the caller's back"
    assert disk.store.check(repair=True).repaired == 1


def test_a_tier_that_is_slow_is_looked_at_to_the_end(config: StoreConfig) -> None:
    """In all it takes longer than a tier may hang."""
    disk = Disk(config, read_timeout_s=1.0)
    disk.gate.delay_s = 1.2 / (NUM * (LAYERS + 1))
    disk.gate.allow()
    report = disk.store.check()
    assert report.unchecked == () and report.ok and report.segments_checked == NUM
    disk.gate.delay_s = 0.0
    disk.close()


def test_the_end_of_the_store_ends_a_check(config: StoreConfig) -> None:
    disk = Disk(config, read_timeout_s=600.0)
    checking = Checking(disk)
    assert eventually(lambda: bool(disk.gate._passed), TOO_LONG_S), "it is in the medium"
    disk.store.close(1.0)
    assert checking.join().is_refused
    disk.gate.allow()
