"""KV that is kept with less precision below DRAM, where the configuration says so."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from kvstore.config import CodecName, StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired, SegmentSpec
from tests.kvstore.segments import assert_balanced, chain_of, passage

SPEC = chain_of(passage(1, 64))[0]


def values(spec: SegmentSpec) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    rng = np.random.default_rng(3)
    return rng.standard_normal(spec.layout.nbytes // 4).astype(np.float32)


def stored(config: StoreConfig, written: bytes) -> tuple[KVStore, LocalStoreClient, Acquired]:
    """A store that was closed with one segment and opened again: what it reads from the SSD."""
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire([(SPEC,)], 5)
    ticket = acquired.tickets[SPEC.key]
    client.writable(acquired, ticket)[:] = written
    client.commit(acquired, [ticket])
    assert store.flush(5)
    client.close()
    store.close()
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    return store, client, client.acquire([(SPEC,)], 5)


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


def test_another_codec_after_a_restart_reads_what_is_there(config: StoreConfig) -> None:
    written = values(SPEC)
    store, client, acquired = stored(replace(config, codec="int8"), written.tobytes())
    first = bytes(client.view(acquired, acquired.hits[SPEC.key].extent))
    client.close()
    store.close()
    store = KVStore(replace(config, codec="raw"), "node")
    client = LocalStoreClient(store, config.dram_dir)
    acquired = client.acquire([(SPEC,)], 5)
    assert client.view(acquired, acquired.hits[SPEC.key].extent) == first
    client.close()
    store.close()


def test_an_unknown_codec_is_refused() -> None:
    with pytest.raises(ValueError, match="store.codec is 'zip', must be one of raw, int8, fp8"):
        StoreConfig(codec=cast(CodecName, "zip"))
