import errno
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from redis import Redis

from kvstore.tiers.redis_server import MAX_VALUE_BYTES, RedisMedium
from tests.kvstore.media import header_of, object_of, read_all, read_object, write
from tests.kvstore.redis_server import RedisServer, redis_server
from tests.kvstore.segments import chain_of, passage, payload

SPEC, OTHER = chain_of(passage(1))[0], chain_of(passage(2))[0]
TIMEOUT_S = 1.0
SLACK_S = 3.0
"""What a busy machine may add."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def medium(server: RedisServer) -> Iterator[RedisMedium]:
    with closing(RedisMedium(server.url(), TIMEOUT_S)) as medium:
        yield medium


def test_an_object_is_one_string_named_by_its_key(server: RedisServer, medium: RedisMedium) -> None:
    name = write(medium, SPEC)
    key = f"test:v4:{'0' * 16}:{SPEC.key}"
    assert name == f"{key}@{'0' * 16}"
    with Redis(port=server.port) as client:
        assert client.keys() == [key.encode()]
        assert client.get(key) == object_of(SPEC)


def test_clusters_with_other_prefixes_do_not_see_each_other(server: RedisServer) -> None:
    with (
        closing(RedisMedium(server.url(prefix="a"), TIMEOUT_S)) as one,
        closing(RedisMedium(server.url(prefix="[a]*"), TIMEOUT_S)) as two,
    ):
        name = write(one, SPEC)
        assert two.find(SPEC.key) is None and list(two.list()) == []
        other = write(two, OTHER)
        assert [each.name for each in one.list()] == [name]
        assert [each.name for each in two.list()] == [other]


def test_a_listing_skips_keys_of_strangers(server: RedisServer, medium: RedisMedium) -> None:
    name = write(medium, SPEC)
    with Redis(port=server.port) as client:
        client.set("test:notes", "ours")
        client.set(f"test:v2:{'0' * 16}:{SPEC.key}", object_of(SPEC))
        client.rpush(f"test:v4:{'0' * 16}:{OTHER.key}", "of another type")
    assert [each.name for each in medium.list()] == [name]


def test_a_value_of_another_type_is_a_miss(server: RedisServer, medium: RedisMedium) -> None:
    name = write(medium, OTHER)
    with Redis(port=server.port) as client:
        client.flushall()
        client.rpush(name.partition("@")[0], "of another type")
        assert medium.find(OTHER.key) is None
        with pytest.raises(FileNotFoundError):
            medium.open(name)
        medium.delete(name)
        assert client.dbsize() == 1


def test_a_value_of_another_size_than_it_says_is_a_miss(
    server: RedisServer, medium: RedisMedium
) -> None:
    key = write(medium, SPEC).partition("@")[0]
    with Redis(port=server.port) as client:
        client.setrange(key, 2**24, b"x")  # 16 MiB behind a sound header
    assert medium.find(SPEC.key) is None and list(medium.list()) == []


def test_an_answer_that_is_too_long_is_an_error(
    medium: RedisMedium, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that ignores the range: only a fake one does."""
    with medium.open(write(medium, SPEC)) as source:
        monkeypatch.setattr(medium._client, "getrange", lambda *_: bytes(11))
        with pytest.raises(OSError) as caught:
            source.read(memoryview(bytearray(10)), 0)
        assert caught.value.errno == errno.EPROTO


def test_a_long_listing_shows_each_object_once(server: RedisServer, medium: RedisMedium) -> None:
    head = header_of(SPEC)
    keys = [SPEC.key._replace(digest=number.to_bytes(32, "big")) for number in range(2000)]
    headers = {key: header_of(replace(SPEC, key=key)) for key in keys}
    assert {len(header) for header in headers.values()} == {len(head)}
    with Redis(port=server.port) as client:
        client.mset(
            {f"test:v4:{'0' * 16}:{key}": head + payload(SPEC) for key, head in headers.items()}
        )
    listed = [each.label.spec.key for each in medium.list() if each.label]
    assert sorted(listed) == keys


def test_a_listing_knows_when_an_object_was_last_used(medium: RedisMedium) -> None:
    write(medium, SPEC)
    time.sleep(2.1)  # the server counts whole seconds
    (listed,) = medium.list()
    assert 1.0 < time.time() - listed.last_use < 30.0


def test_a_value_that_is_there_is_never_replaced(server: RedisServer, medium: RedisMedium) -> None:
    name = write(medium, SPEC)
    medium.write(SPEC.key, header_of(SPEC), memoryview(b"other"))
    assert read_object(medium, name) == object_of(SPEC)


def test_a_value_that_goes_while_it_is_read_is_not_found(medium: RedisMedium) -> None:
    name = write(medium, SPEC)
    with medium.open(name) as source:
        medium.delete(name)
        with pytest.raises(FileNotFoundError):
            read_all(source, 10)


def test_a_value_above_the_servers_bound_is_refused_unsent(medium: RedisMedium) -> None:
    huge = memoryview(bytearray(MAX_VALUE_BYTES))
    with pytest.raises(OSError) as caught:
        medium.write(SPEC.key, header_of(SPEC), huge)
    assert caught.value.errno == errno.EFBIG


def test_a_full_server_is_no_space(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server,
        closing(RedisMedium(server.url(), TIMEOUT_S)) as medium,
    ):
        kept = write(medium, SPEC)
        with pytest.raises(OSError) as caught:
            for number in range(10, 400):
                write(medium, chain_of(passage(number))[0])
        assert caught.value.errno == errno.ENOSPC
        assert read_object(medium, kept) == object_of(SPEC)
        medium.delete(kept)


def test_a_read_only_server_is_read_only(server: RedisServer, medium: RedisMedium) -> None:
    name = write(medium, SPEC)
    with Redis(port=server.port) as client:
        client.config_set("replica-serve-stale-data", "yes")
        client.replicaof("127.0.0.1", 1)
        with pytest.raises(OSError) as caught:
            write(medium, OTHER)
        assert caught.value.errno == errno.EROFS
        assert read_object(medium, name) == object_of(SPEC)


def test_a_killed_server_fails_at_once_and_works_again_when_it_is_back(
    server: RedisServer, medium: RedisMedium
) -> None:
    name = write(medium, SPEC)
    with medium.open(name) as source:
        server.kill()
        begin = time.monotonic()
        for call in (
            lambda: write(medium, OTHER),
            lambda: medium.find(SPEC.key),
            lambda: medium.open(name),
            lambda: list(medium.list()),
            lambda: medium.delete(name),
            lambda: source.read(memoryview(bytearray(10)), 0),
        ):
            with pytest.raises(ConnectionError):
                call()
        assert time.monotonic() - begin < SLACK_S
    server.start()
    assert medium.find(SPEC.key) is None  # it came back empty
    assert read_object(medium, write(medium, SPEC)) == object_of(SPEC)


def test_a_frozen_server_costs_each_call_its_timeout(
    server: RedisServer, medium: RedisMedium
) -> None:
    name = write(medium, SPEC)
    with server.frozen(), closing(RedisMedium(server.url(), TIMEOUT_S)) as fresh:
        for call in (lambda: medium.find(SPEC.key), lambda: fresh.open(name)):
            begin = time.monotonic()
            with pytest.raises(TimeoutError):
                call()
            assert TIMEOUT_S * 0.9 < time.monotonic() - begin < TIMEOUT_S + SLACK_S
    assert read_object(medium, name) == object_of(SPEC)


@pytest.mark.parametrize("user", [":wr0ng-pass@", "someone:wr0ng-pass@", ":wr0ng%2Dpass@"])
def test_a_wrong_password_is_refused_and_not_told(tmp_path: Path, user: str) -> None:
    with (
        redis_server(tmp_path, "--requirepass", "right-pass") as server,
        closing(RedisMedium(server.url(user), TIMEOUT_S)) as medium,
        closing(RedisMedium(server.url(":right-pass@"), TIMEOUT_S)) as welcome,
    ):
        with pytest.raises(ConnectionError) as caught:
            write(medium, SPEC)
        assert "wr0ng" not in str(caught.value)
        assert read_object(welcome, write(welcome, SPEC)) == object_of(SPEC)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://:pa/ss@host:6379",
        "redis://:pa?ss@host:6379",
        "redis://:pa#ss@host:6379",
        "redis://host:port",
        "redis://host/first",
        "redis://host?socket_timeout=100",
        "redis://host?ssl_ca_certs=/ca.pem",
        "http://host",
    ],
)
def test_a_url_that_cannot_work_is_refused_and_not_told(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        RedisMedium(url, TIMEOUT_S)
    assert "pa" not in str(caught.value).replace("password", "") and "ss@" not in str(caught.value)
