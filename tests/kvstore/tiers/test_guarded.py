import errno
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kvstore.tiers.bucket import Bucket
from kvstore.tiers.guarded import Guarded
from kvstore.tiers.local_place import LocalPlace
from kvstore.tiers.medium import Listed, Source, Written
from kvstore.tiers.redis_server import RedisMedium
from kvstore.types import SegmentKey
from tests.kvstore.media import Clock, header_of, object_of, read_all, read_object, write
from tests.kvstore.redis_server import redis_server
from tests.kvstore.segments import chain_of, passage, payload

SPEC, OTHER = chain_of(passage(1))[0], chain_of(passage(2))[0]
DEADLINE_S, PAUSE_S = 1.0, 10.0
WAIT_S = 20.0


class HangingBucket(Bucket):
    """A folder whose server is away, as NFS has it: every call waits until it is back."""

    def __init__(self, folder: Path) -> None:
        super().__init__(LocalPlace(folder / "segments"))
        self.back = threading.Event()
        self.back.set()
        self.closed = threading.Event()
        self.calls = 0

    def strike(self) -> None:
        self.calls += 1
        assert self.back.wait(WAIT_S)

    def write(self, key: SegmentKey, header: bytes, payload: memoryview) -> Written:
        self.strike()
        return super().write(key, header, payload)

    def open(self, name: str) -> Source:
        self.strike()
        return HangingSource(self, super().open(name))

    def find(self, key: SegmentKey) -> Listed | None:
        self.strike()
        return super().find(key)

    def list(self) -> Iterator[Listed]:
        for each in super().list():
            self.strike()
            yield each


class HangingSource(Source):
    def __init__(self, bucket: HangingBucket, source: Source) -> None:
        self._bucket, self._source, self.nbytes = bucket, source, source.nbytes

    def read(self, into: memoryview, offset: int) -> int:
        self._bucket.strike()
        return self._source.read(into, offset)

    def close(self) -> None:
        self._source.close()
        self._bucket.closed.set()


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[HangingBucket]:
    bucket = HangingBucket(tmp_path)
    yield bucket
    bucket.back.set()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guarded(bucket: HangingBucket, clock: Clock) -> Guarded:
    return Guarded(bucket, 3, PAUSE_S, DEADLINE_S, clock)


def assert_in_time(begin: float) -> None:
    assert time.monotonic() - begin < DEADLINE_S + 3.0


def test_every_call_of_a_hanging_medium_ends_in_time(
    bucket: HangingBucket, guarded: Guarded
) -> None:
    name = write(guarded, SPEC)
    source = guarded.open(name)
    bucket.back.clear()
    for call in (
        lambda: write(guarded, OTHER),
        lambda: guarded.find(SPEC.key),
        lambda: source.read(memoryview(bytearray(10)), 0),
    ):
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            call()
        assert_in_time(begin)
    assert guarded.is_open and guarded.open_for_s == PAUSE_S
    calls = bucket.calls
    for refused in (lambda: guarded.open(name), lambda: list(guarded.list())):
        with pytest.raises(OSError) as caught:
            refused()
        assert caught.value.errno == errno.EHOSTDOWN
    assert bucket.calls == calls, "the medium was touched"
    source.close()


def test_a_medium_that_is_back_is_used_again(
    bucket: HangingBucket, guarded: Guarded, clock: Clock
) -> None:
    name = write(guarded, SPEC)
    bucket.back.clear()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            guarded.find(SPEC.key)
    bucket.back.set()
    clock.now += PAUSE_S
    assert read_object(guarded, name) == object_of(SPEC) and not guarded.is_open


def test_a_late_read_writes_into_nobodys_memory(bucket: HangingBucket, guarded: Guarded) -> None:
    source = guarded.open(write(guarded, SPEC))
    bucket.back.clear()
    bytes_of_the_caller = bytearray(100)
    with pytest.raises(TimeoutError):
        source.read(memoryview(bytes_of_the_caller), 0)
    source.close()
    assert not bucket.closed.is_set(), "closed under a read that goes on"
    bucket.back.set()
    assert bucket.closed.wait(WAIT_S)
    assert bytes_of_the_caller == bytes(100)
    with pytest.raises(OSError):
        source.read(memoryview(bytes_of_the_caller), 0)


def test_a_late_write_writes_what_its_caller_had(bucket: HangingBucket, guarded: Guarded) -> None:
    data = bytearray(payload(SPEC))
    bucket.back.clear()
    with pytest.raises(TimeoutError):
        guarded.write(SPEC.key, header_of(SPEC), memoryview(data))
    data[:] = bytes(len(data))
    bucket.back.set()
    end = time.monotonic() + WAIT_S
    while (found := guarded.find(SPEC.key)) is None and time.monotonic() < end:
        time.sleep(0.01)
    assert found is not None and read_object(guarded, found.name) == object_of(SPEC)


def test_a_source_that_opens_late_is_closed(bucket: HangingBucket, guarded: Guarded) -> None:
    name = write(guarded, SPEC)
    bucket.back.clear()
    with pytest.raises(TimeoutError):
        guarded.open(name)
    bucket.back.set()
    assert bucket.closed.wait(WAIT_S)


def test_a_slow_listing_takes_as_long_as_it_needs(bucket: HangingBucket, guarded: Guarded) -> None:
    specs = [chain_of(passage(number))[0] for number in range(12)]
    names = {write(guarded, spec) for spec in specs}
    listed = set()
    for each in guarded.list():
        listed.add(each.name)
        time.sleep(DEADLINE_S / 6)  # in all twice the deadline
    assert listed == names


def test_a_listing_that_hangs_half_way_fails(bucket: HangingBucket, guarded: Guarded) -> None:
    for number in range(3):
        write(guarded, chain_of(passage(number))[0])
    bucket.back.clear()
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        list(guarded.list())
    assert_in_time(begin)


def test_a_server_without_a_deadline_of_ours_opens_the_breaker_as_well(
    tmp_path: Path, clock: Clock
) -> None:
    with (
        redis_server(tmp_path) as server,
        closing(Guarded(RedisMedium(server.url(), 1.0), 2, PAUSE_S, None, clock)) as guarded,
    ):
        source = guarded.open(write(guarded, SPEC))
        with server.frozen():
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    source.read(memoryview(bytearray(10)), 0)
            with pytest.raises(OSError) as caught:
                guarded.find(SPEC.key)
            assert caught.value.errno == errno.EHOSTDOWN
        clock.now += PAUSE_S
        assert read_all(source, source.nbytes) == object_of(SPEC)
