"""KV that is kept with less precision below DRAM, where the configuration says so."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from kvstore.config import CODECS, CodecName, StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired, SegmentSpec
from tests.kvstore.redis_server import RedisServer, redis_server
from tests.kvstore.segments import assert_balanced, chain_of, passage

SPEC = chain_of(passage(1, 64))[0]


def values(spec: SegmentSpec) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    rng = np.random.default_rng(3)
    return rng.standard_normal(spec.layout.nbytes // 4).astype(np.float32)


def stored(config: StoreConfig, written: bytes) -> tuple[KVStore, LocalStoreClient, Acquired]:
    """A store that was closed with one segment and opened again: what it reads from the SSD."""
    store, client = opened(config)
    write(client, client.acquire([(SPEC,)], 5), written)
    assert store.flush(5)
    client.close()
    store.close()
    store, client = opened(config)
    return store, client, client.acquire([(SPEC,)], 5)


def opened(config: StoreConfig) -> tuple[KVStore, LocalStoreClient]:
    store = KVStore(config, "node")
    return store, LocalStoreClient(store, config.dram_dir)


def write(client: LocalStoreClient, acquired: Acquired, data: bytes) -> None:
    ticket = acquired.tickets[SPEC.key]
    client.writable(acquired, ticket)[:] = data
    client.commit(acquired, [ticket])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.mark.parametrize(("codec", "error"), [("raw", 0.0), ("int8", 0.02), ("fp8", 0.2)])
def test_the_ssd_keeps_less_precision_and_fewer_bytes(
    config: StoreConfig, codec: CodecName, error: float
) -> None:
    written = values(SPEC)
    store, client, acquired = stored(replace(config, codec=codec), written.tobytes())
    read = np.frombuffer(client.view(acquired, acquired.hits[SPEC.key].extent), np.float32)
    assert acquired.hits[SPEC.key].tier == "ssd"
    assert np.abs(read - written).max() <= error and (error > 0) == bool((read != written).any())
    assert store.flush(5)
    payload = store.stats().ssd.used_bytes - 4096
    assert (payload == SPEC.layout.nbytes) if codec == "raw" else (payload < SPEC.layout.nbytes / 3)
    assert_balanced(store)
    client.close()
    store.close()


def test_what_a_codec_cannot_represent_is_written_raw(config: StoreConfig) -> None:
    written = values(SPEC)
    written[5] = np.inf
    store, client, acquired = stored(replace(config, codec="int8"), written.tobytes())
    assert client.view(acquired, acquired.hits[SPEC.key].extent) == written.tobytes()
    assert_balanced(store)
    client.close()
    store.close()


def lossy(written: CodecName, asked: CodecName) -> bool:
    return written not in ("raw", asked)


@pytest.mark.parametrize("asked", CODECS)
@pytest.mark.parametrize("written", CODECS)
@pytest.mark.parametrize("where", ["ssd", "bucket", "redis"])
def test_what_lost_more_than_the_configuration_allows_is_a_miss(
    config: StoreConfig,
    tmp_path: Path,
    server: RedisServer,
    where: str,
    written: CodecName,
    asked: CodecName,
) -> None:
    """By an earlier configuration, or by another cluster: exact bytes are computed and kept."""
    if where != "ssd":
        prefix = f"{written}-{asked}"
        remote = f"file://{tmp_path}/remote" if where == "bucket" else server.url(prefix=prefix)
        config = replace(config, ssd_dir="", remote=remote)
    data = values(SPEC).tobytes()
    before, client, acquired = stored(replace(config, codec=written), data)
    first = bytes(client.view(acquired, acquired.hits[SPEC.key].extent))
    client.close()
    before.close()
    store, client = opened(replace(config, codec=asked))
    acquired = client.acquire([(SPEC,)], 5)
    assert bool(acquired.hits) != lossy(written, asked)
    if acquired.hits:
        assert client.view(acquired, acquired.hits[SPEC.key].extent) == first
    else:
        write(client, acquired, data)
        assert store.flush(5)
        stats = store.stats()
        assert max(stats.ssd.codec_misses, stats.remote.codec_misses) >= 1
        assert stats.corrupt == 0
        client.release(acquired.lease_id)
    assert_balanced(store)
    client.close()
    store.close()
    if asked == "raw":
        store, client = opened(replace(config, codec=asked))
        acquired = client.acquire([(SPEC,)], 5)
        exact = data if lossy(written, asked) else first
        assert client.view(acquired, acquired.hits[SPEC.key].extent) == exact
        client.close()
        store.close()


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="store.codec is 'zip', must be one of raw, int8, fp8"):
        StoreConfig(codec=cast(CodecName, "zip"))
