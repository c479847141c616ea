"""Stores that share a remote tier: none of them takes what another wrote."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from redis import Redis

from kvstore import levels
from kvstore.checksum import segment_crcs
from kvstore.codec import (
    LABEL_NBYTES,
    Header,
    decode_header,
    decode_label,
    encode_header,
    signed_part,
)
from kvstore.config import StoreConfig
from kvstore.errors import StoreConfigError
from kvstore.tiers import sharing
from kvstore.tiers.object_name import decode_name
from kvstore.types import SegmentKey
from tests.kvstore.redis_server import RedisServer, redis_server
from tests.kvstore.segments import assert_right_bytes, chain_of, compute, passage, store_path
from tests.kvstore.store.test_remote import PATHS, Node
from tests.kvstore.waiting import eventually

OBJECT = 28672
"""Of the last segment of each path."""
OTHERS = [chain_of([7] * 8, passage(i, 64)) for i in range(100, 112)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


class Bucket:
    """What is really there, by writer."""

    def __init__(self, folder: Path, server: RedisServer | None) -> None:
        self._folder, self._server = folder, server
        self.url = server.url(prefix=folder.name) if server else f"file://{folder}/remote"

    def objects(self) -> set[tuple[SegmentKey, bytes]]:
        if self._server is None:
            labels = [decode_name(path.name) for path in (self._folder / "remote").rglob("*.kv")]
        else:
            with closing(Redis(port=self._server.port)) as client:
                keys = client.keys(f"{self._folder.name}:*")
                starts = [client.getrange(key, 0, LABEL_NBYTES - 1) for key in keys]
            labels = [decode_label(start, "value") for start in starts if start]  # else it is gone
        return {(label.spec.key, label.writer) for label in labels if label}


@pytest.fixture(params=["folder", "server"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    server = request.getfixturevalue("server") if request.param == "server" else None
    return Bucket(tmp_path, server)


def test_a_store_with_a_smaller_bound_takes_nothing_from_others(
    bucket: Bucket, tmp_path: Path
) -> None:
    large = Node(tmp_path / "large", bucket.url)
    store_path(large.client, *PATHS)
    assert large.store.flush(10)
    written = bucket.objects()
    assert len(written) == 13
    small = Node(tmp_path / "small", bucket.url, remote_bytes=4 * OBJECT)
    assert small.store.flush(10)
    assert bucket.objects() == written, "at its start"
    for path in OTHERS:
        store_path(small.client, path)
        assert small.store.flush(10)
    assert small.store.stats().remote.evictions > 0
    assert bucket.objects() >= written, "while it writes more than its bound"
    assert 0 < small.store.stats().remote.used_bytes <= 4 * OBJECT
    assert large.tiers(*PATHS) == {"dram"}
    large.close()
    small.close()


def test_stores_with_equal_bounds_keep_what_the_other_uses(bucket: Bucket, tmp_path: Path) -> None:
    bound = 6 * OBJECT
    one = Node(tmp_path / "one", bucket.url, remote_bytes=bound)
    store_path(one.client, *PATHS[:4])
    assert one.store.flush(10)
    hot = bucket.objects()
    two = Node(tmp_path / "two", bucket.url, remote_bytes=bound)
    for path in OTHERS:
        store_path(two.client, path)
        assert two.store.flush(10)
    one.close()
    two.close()
    assert bucket.objects() >= hot


def test_what_a_store_wrote_is_its_own_after_a_restart(bucket: Bucket, tmp_path: Path) -> None:
    one = Node(tmp_path / "one", bucket.url)
    store_path(one.client, *PATHS)
    one.close()
    before = bucket.objects()
    one = Node(tmp_path / "one", bucket.url, remote_bytes=4 * OBJECT)
    assert one.store.flush(10)
    kept = bucket.objects()
    assert kept < before and len(kept) in (4, 5)
    assert one.store.stats().remote.num_segments == len(kept)
    one.close()


def test_a_store_on_a_copied_ssd_takes_nothing_from_the_first(
    bucket: Bucket, tmp_path: Path
) -> None:
    one = Node(tmp_path / "one", bucket.url)
    store_path(one.client, *PATHS)
    one.close()
    before = bucket.objects()
    shutil.copytree(tmp_path / "one" / "ssd", tmp_path / "two" / "ssd")
    two = Node(tmp_path / "two", bucket.url, remote_bytes=4 * OBJECT)
    for path in OTHERS:
        store_path(two.client, path)
        assert two.store.flush(10)
    assert two.store.stats().remote.evictions > 0 and bucket.objects() >= before
    two.close()


def test_a_store_without_an_ssd_knows_its_own_again(bucket: Bucket, tmp_path: Path) -> None:
    one = Node(tmp_path / "one", bucket.url, ssd_dir="")
    store_path(one.client, *PATHS[:3])
    one.close()
    two = Node(tmp_path / "two", bucket.url, ssd_dir="")
    assert two.store.flush(10)
    two.client.release(compute(two.client, *OTHERS[:1]).lease_id)
    assert two.store.flush(10)
    writers = {writer for _, writer in bucket.objects()}
    two.close()
    one = Node(tmp_path / "one", bucket.url, ssd_dir="")
    assert one.store.flush(10) and one.store.stats().remote.used_bytes > 0
    assert len(writers) == 2
    one.close()


def test_without_eviction_nothing_is_ever_deleted_to_make_room(
    bucket: Bucket, tmp_path: Path
) -> None:
    one = Node(tmp_path / "one", bucket.url, remote_bytes=4 * OBJECT, remote_eviction="none")
    for path in PATHS:
        store_path(one.client, path)
        assert one.store.flush(10)
    stats = one.store.stats().remote
    assert len(bucket.objects()) == 13 and not stats.evictions and not stats.writes_dropped
    one.close()
    one = Node(tmp_path / "one", bucket.url, remote_bytes=4 * OBJECT, remote_eviction="none")
    assert one.store.flush(10) and one.store.stats().remote.num_segments == 13
    one.close()
    assert len(bucket.objects()) == 13


@pytest.mark.parametrize("eviction", ["owner", "none"])
def test_a_removed_passage_goes_after_a_restart(
    bucket: Bucket, tmp_path: Path, eviction: str
) -> None:
    chain = chain_of([7] * 8, passage(1), passage(2), passage(3))
    one = Node(tmp_path / "one", bucket.url, remote_eviction=eviction)
    store_path(one.client, chain, *PATHS[3:6])
    one.close()
    one = Node(tmp_path / "one", bucket.url, remote_eviction=eviction)
    one.client.remove_tags([chain[2].tag])
    assert one.store.flush(10)
    one.close()
    left = {key for key, _ in bucket.objects()}
    assert left == {chain[0].key, chain[1].key, *(path[1].key for path in PATHS[3:6])}


def test_an_eviction_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="store.remote_eviction is 'all', must be one of owner, n"):
        StoreConfig(remote_eviction="all")  # type: ignore[arg-type]


def test_a_removed_passage_goes_whoever_wrote_it(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a store that is gone with its identity, of whose objects nobody knows."""
    for module in (levels, sharing):
        monkeypatch.setattr(module, "MAX_FOREIGN", 0)
    chain = chain_of([7] * 8, passage(1), passage(2), passage(3))
    one = Node(tmp_path / "one", bucket.url)
    store_path(one.client, chain, *PATHS[3:6])
    one.close()
    shutil.rmtree(tmp_path / "one")
    two = Node(tmp_path / "two", bucket.url)
    two.client.remove_tags([chain[2].tag])
    kept = {chain[0].key, chain[1].key, *(path[1].key for path in PATHS[3:6])}
    assert eventually(lambda: {key for key, _ in bucket.objects()} == kept, 20)
    two.close()


def key_file(folder: Path, key: bytes = b"k" * 32) -> str:
    path = folder / f"key-{key[:1].decode()}"
    path.write_bytes(key)
    path.chmod(0o600)
    return str(path)


def test_stores_with_one_key_use_each_others_kv(bucket: Bucket, tmp_path: Path) -> None:
    key = key_file(tmp_path)
    one = Node(tmp_path / "one", bucket.url, remote_mac_key_file=key)
    store_path(one.client, *PATHS[:3])
    one.close()
    two = Node(tmp_path / "two", bucket.url, remote_mac_key_file=key)
    acquired = two.client.acquire(PATHS[:3], 10, streamed=True)
    assert not acquired.tickets and {hit.tier for hit in acquired.hits.values()} == {"remote"}
    assert_right_bytes(two.client, acquired)
    two.client.release(acquired.lease_id)
    assert not two.store.stats().unauthenticated
    two.close()


@pytest.mark.parametrize("others_key", ["", "x"])
def test_kv_without_the_right_mac_is_a_miss_and_stays(
    bucket: Bucket, tmp_path: Path, others_key: str
) -> None:
    path = key_file(tmp_path, others_key.encode() * 32) if others_key else ""
    one = Node(tmp_path / "one", bucket.url, remote_mac_key_file=path)
    store_path(one.client, *PATHS[:3])
    one.close()
    written = bucket.objects()
    two = Node(tmp_path / "two", bucket.url, remote_mac_key_file=key_file(tmp_path))
    acquired = two.client.acquire(PATHS[:3], 10)
    assert len(acquired.tickets) == 4 and not acquired.hits
    two.client.release(acquired.lease_id)
    store_path(two.client, *PATHS[:3])
    two.close()
    assert bucket.objects() > written and len(bucket.objects()) == 8


def test_injected_kv_is_a_counted_miss_and_stays(tmp_path: Path) -> None:
    """What somebody without the key makes: sound by every checksum, under the right name."""
    remote = f"file://{tmp_path}/remote"
    key = key_file(tmp_path)
    one = Node(tmp_path / "one", remote, remote_mac_key_file=key)
    store_path(one.client, PATHS[0])
    one.close()
    spec = PATHS[0][1]
    (file,) = (tmp_path / "remote").rglob(f"{spec.key}-*")
    sound = file.read_bytes()
    header = decode_header(sound, "x")
    evil = bytes(spec.layout.nbytes)
    fake = Header(
        spec, segment_crcs(spec, memoryview(evil)), header.codec, header.writer, header.seal,
        header.macs,
    )  # fmt: skip
    forged = encode_header(fake, lambda _: signed_part(sound, header.label)[1]) + evil
    swapped = sound[: len(sound) - len(evil)] + evil
    for number, data in enumerate((forged, swapped)):
        file.write_bytes(data)
        node = Node(tmp_path / f"reader-{number}", remote, remote_mac_key_file=key)
        assert node.store.flush(10)
        acquired = node.client.acquire(PATHS[:1], 10, streamed=True)
        assert list(acquired.tickets) == [spec.key]
        node.client.release(acquired.lease_id)
        assert node.store.stats().unauthenticated == 1 and not node.store.stats().corrupt
        assert file.read_bytes() == data
        node.client.close()
        node.store.close()


def test_a_key_that_is_short_or_known_to_others_is_refused(tmp_path: Path) -> None:
    remote = f"file://{tmp_path}/remote"
    short = key_file(tmp_path, b"secret-but-short")
    with pytest.raises(StoreConfigError, match="16 bytes, must be at least 32") as caught:
        Node(tmp_path / "one", remote, remote_mac_key_file=short)
    assert "secret" not in str(caught.value)
    readable = key_file(tmp_path)
    os.chmod(readable, 0o640)
    with pytest.raises(StoreConfigError, match="mode 0640, must be its owner's alone"):
        Node(tmp_path / "two", remote, remote_mac_key_file=readable)
    with pytest.raises(StoreConfigError, match="store.remote_mac_key_file"):
        Node(tmp_path / "three", remote, remote_mac_key_file=str(tmp_path / "absent"))
