"""What is remembered of removals, for how long, and what is said of the rest."""

import pytest

from actors import removal_log
from actors.removal_file import DamagedRemovalsError, decode, encode
from actors.removal_log import KEEP_MS, Kept, RemovalLog, Removals, Removed

TAGS = [bytes([n]) * 8 for n in range(3)]


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> RemovalLog:
    return RemovalLog(clock)


def test_a_removal_is_there_once_and_reaches_back_to_the_start(log: RemovalLog) -> None:
    log.note(b"1" * 16, TAGS)
    (entry,) = log.known().entries
    log.add([entry])
    assert log.known() == Removals(1_000_000, (Removed(b"1" * 16, 1_000_000, b"".join(TAGS)),))
    assert entry.tags == TAGS and not log.missing([entry])


def test_what_is_too_old_is_forgotten_and_the_log_says_so(log: RemovalLog, clock: Clock) -> None:
    log.note(b"1" * 16, TAGS)
    clock.now_s += KEEP_MS / 1000 + 1
    assert log.known() == Removals(1_001_000, ())


def test_what_is_too_much_is_forgotten_and_the_log_says_so(
    log: RemovalLog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal_log, "MAX_BYTES", 500)
    for n in range(4):
        clock.now_s += 1
        log.note(bytes([n]) * 16, TAGS)
    known = log.known()
    assert [entry.at_ms for entry in known.entries] == [1_002_000, 1_003_000, 1_004_000]
    assert known.since_ms == 1_001_001


def test_a_log_reaches_as_far_back_as_those_it_was_told_by(log: RemovalLog) -> None:
    log.reach_back(500_000)
    assert log.known().since_ms == 500_000
    log.reach_back(700_000)
    assert log.known().since_ms == 500_000
    log.reach_back(700_000, is_seamless=False)
    assert log.known().since_ms == 700_000


def test_the_file_has_what_was_written() -> None:
    entries = tuple(Removed(bytes([n]) * 16, n, b"".join(TAGS[:n])) for n in range(3))
    kept = Kept(77, Removals(5, entries))
    assert decode(encode(kept)) == kept


def test_a_damaged_file_is_none() -> None:
    data = encode(Kept(77, Removals(5, (Removed(b"1" * 16, 6, TAGS[0]),))))
    for i in range(len(data)):
        with pytest.raises(DamagedRemovalsError):
            decode(data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :])
        with pytest.raises(DamagedRemovalsError):
            decode(data[:i])
