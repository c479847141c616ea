"""What every medium promises, wherever its objects are."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem

from kvstore.codec import Label, decode_header, header_nbytes
from kvstore.tiers.arrow_place import ArrowPlace
from kvstore.tiers.bucket import Bucket
from kvstore.tiers.folder import Folder
from kvstore.tiers.guarded import Guarded
from kvstore.tiers.local_place import LocalPlace
from kvstore.tiers.medium import Medium
from kvstore.tiers.redis_server import RedisMedium
from kvstore.tiers.sharing import sweep
from kvstore.types import SegmentSpec
from tests.kvstore.media import header_of, object_of, read_all, read_object, write
from tests.kvstore.redis_server import RedisServer, redis_server
from tests.kvstore.segments import chain_of, passage, payload

SPEC = chain_of(passage(1))[0]
ONE, TWO = b"store  1", b"store  2"
SPECS = [chain_of(passage(number))[0] for number in range(12)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def bucket(tmp_path: Path) -> Medium:
    return Bucket(LocalPlace(tmp_path / "segments"))


@pytest.fixture
def arrow_bucket(tmp_path: Path) -> Medium:
    """As it reaches S3, GCS and HDFS."""
    return Bucket(ArrowPlace(LocalFileSystem(), f"{tmp_path}/segments"))


@pytest.fixture
def redis_medium(server: RedisServer, tmp_path: Path) -> Medium:
    return RedisMedium(server.url(prefix=tmp_path.name), 10.0)


@pytest.fixture
def guarded_bucket(bucket: Medium) -> Medium:
    return Guarded(bucket, failures=3, pause_s=10.0, deadline_s=10.0)


@pytest.fixture
def guarded_redis(redis_medium: Medium) -> Medium:
    return Guarded(redis_medium, failures=3, pause_s=10.0, deadline_s=None)


@pytest.fixture
def folder(tmp_path: Path) -> Medium:
    return Folder(tmp_path / "segments", 8 * len(object_of(SPEC)))


@pytest.fixture(
    params=["folder", "bucket", "arrow_bucket", "redis_medium", "guarded_bucket", "guarded_redis"]
)
def medium(request: pytest.FixtureRequest) -> Iterator[Medium]:
    medium: Medium = request.getfixturevalue(request.param)
    yield medium
    medium.close()


def test_what_is_written_is_read_whole(medium: Medium) -> None:
    for spec in SPECS:
        name = write(medium, spec)
        data = read_object(medium, name)
        assert data == object_of(spec)
        assert decode_header(data, name).spec == spec


def test_ranges_are_read_layer_by_layer_and_in_any_order(medium: Medium) -> None:
    whole, start = object_of(SPEC), header_nbytes(SPEC.layout.num_layers)
    size = SPEC.layout.layer_nbytes
    with medium.open(write(medium, SPEC)) as source:
        assert source.nbytes == len(whole)
        for index in (2, 0, 1):
            offset = start + index * size
            assert read_all(source, size, offset) == whole[offset : offset + size]


def test_a_read_stops_at_the_end(medium: Medium) -> None:
    whole = object_of(SPEC)
    with medium.open(write(medium, SPEC)) as source:
        assert read_all(source, 100, source.nbytes - 40) == whole[-40:]
        for offset in (source.nbytes, source.nbytes + 5000):
            assert source.read(memoryview(bytearray(10)), offset) == 0


def test_a_read_leaves_the_rest_of_its_buffer_alone(medium: Medium) -> None:
    buffer = memoryview(bytearray(b"\xff" * 100))
    with medium.open(write(medium, SPEC)) as source:
        done = source.read(buffer[:60], source.nbytes - 40)
    assert buffer[:done] == object_of(SPEC)[-40:][:done]
    assert bytes(buffer[60:]) == b"\xff" * 40


def test_an_object_that_is_not_there_is_not_found(medium: Medium) -> None:
    name = write(medium, SPEC)
    medium.delete(name)
    assert medium.find(SPEC.key) is None
    with pytest.raises(FileNotFoundError):
        medium.open(name)


def test_find_names_what_was_written(medium: Medium) -> None:
    assert medium.find(SPEC.key) is None
    name = write(medium, SPEC)
    found = medium.find(SPEC.key)
    assert found is not None and read_object(medium, found.name) == object_of(SPEC)
    assert found.name == name and found.nbytes == len(object_of(SPEC))
    assert found.label is None or found.label == Label(SPEC)


def test_a_listing_shows_every_object_and_its_names_open(medium: Medium) -> None:
    assert list(medium.list()) == []
    names = {write(medium, spec): spec for spec in SPECS}
    listed = {each.name: each for each in medium.list()}
    assert listed.keys() == names.keys()
    for name, spec in names.items():
        assert listed[name].nbytes == len(object_of(spec))
        assert abs(time.time() - listed[name].last_use) < 60
        assert read_object(medium, name) == object_of(spec)


def test_delete_is_idempotent(medium: Medium) -> None:
    kept, gone = (write(medium, spec) for spec in SPECS[:2])
    for _ in range(2):
        medium.delete(gone)
    assert [each.name for each in medium.list()] == [kept]


def test_an_object_that_is_deleted_while_open_is_whole_or_not_found(medium: Medium) -> None:
    name = write(medium, SPEC)
    with medium.open(name) as source:
        medium.delete(name)
        try:
            assert read_all(source, source.nbytes) == object_of(SPEC)
        except FileNotFoundError:
            assert medium.find(SPEC.key) is None


def test_what_is_set_aside_is_out_of_the_way_and_bounded(medium: Medium) -> None:
    for spec in SPECS:
        medium.set_aside(write(medium, spec))
        assert medium.find(spec.key) is None
    assert list(medium.list()) == []
    assert medium.aside_bytes <= 8 * len(object_of(SPEC))
    medium.set_aside(write(medium, SPEC))
    assert read_object(medium, write(medium, SPEC)) == object_of(SPEC)


def test_setting_aside_what_is_gone_is_no_error(medium: Medium) -> None:
    name = write(medium, SPEC)
    for _ in range(2):
        medium.set_aside(name)


def test_writers_of_one_key_leave_one_whole_object(medium: Medium) -> None:
    with ThreadPoolExecutor(4) as pool:
        names = list(pool.map(lambda _: write(medium, SPEC), range(12)))
    for name in set(names):
        assert read_object(medium, name) == object_of(SPEC)
    if not medium.exclusive:
        assert [each.name for each in medium.list()] == [names[0]]


def test_threads_read_and_write_side_by_side(medium: Medium) -> None:
    def round_trip(number: int) -> bool:
        spec = SPECS[number % len(SPECS)]
        return read_object(medium, write(medium, spec)) == object_of(spec)

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(round_trip, range(48)))


def test_a_write_keeps_nothing_of_its_callers_memory(medium: Medium) -> None:
    data = bytearray(payload(SPEC))
    name = medium.write(SPEC.key, header_of(SPEC), memoryview(data)).name
    data[:] = bytes(len(data))
    data.clear()  # a view that is still held makes this fail
    assert read_object(medium, name) == object_of(SPEC)


@pytest.fixture(params=["bucket", "arrow_bucket", "redis_medium", "guarded_bucket"])
def shared(request: pytest.FixtureRequest) -> Iterator[Medium]:
    medium: Medium = request.getfixturevalue(request.param)
    yield medium
    medium.close()


def test_a_listing_of_a_shared_medium_says_what_every_object_is(shared: Medium) -> None:
    for spec in SPECS:
        write(shared, spec, ONE)
    assert {each.label for each in shared.list()} == {Label(spec, writer=ONE) for spec in SPECS}


def test_an_object_that_another_store_wrote_stays_as_it_is(shared: Medium) -> None:
    name = write(shared, SPEC, ONE)
    written = shared.write(SPEC.key, header_of(SPEC, TWO), memoryview(payload(SPEC)))
    assert not written.is_new and written.name == name
    assert [each.label for each in shared.list()] == [Label(SPEC, writer=ONE)]


def test_a_sweep_reaches_whole_families_of_every_writer(shared: Medium) -> None:
    chain = chain_of(passage(50), *(passage(number) for number in range(60, 66)))
    for number, spec in enumerate((*chain, *SPECS)):
        write(shared, spec, (ONE, TWO)[number % 2])
    doomed = {chain[2].tag, SPECS[3].tag}
    digests: set[bytes] = set()

    def is_doomed(spec: SegmentSpec) -> bool:
        found = spec.tag in doomed or spec.parent in digests or spec.key.digest in digests
        digests.update([spec.key.digest] if found else [])
        return found

    sweep(shared, is_doomed, lambda: False)
    left = {each.label.spec for each in shared.list() if each.label}
    assert left == {*chain[:2], *SPECS} - {SPECS[3]}
    with pytest.raises(OSError, match="closing"):
        sweep(shared, is_doomed, lambda: True)


def test_a_deleted_name_takes_no_other_stores_object_along(shared: Medium) -> None:
    name = write(shared, SPEC, ONE)
    shared.delete(name)
    others = write(shared, SPEC, TWO)
    shared.delete(name)
    assert read_object(shared, others) == header_of(SPEC, TWO) + payload(SPEC)
