"""What a request gets of the KV that is there, and is told of where it was found."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from actors.engine.config import DeviceTierConfig
from actors.engine.device.retained import RetainedTier
from actors.engine.segments import Segments
from actors.errors import UnavailableError
from actors.messages import CacheReport
from kvstore.config import StoreConfig
from kvstore.errors import RemovalError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.actors.engine.device.kv import path_of, use
from tests.kvstore.segments import assert_balanced, right_layer, small_config
from tests.kvstore.turnstile import Turnstile

PATH = path_of(1)


@contextmanager
def opened(config: StoreConfig) -> Iterator[Segments]:
    """Over a store that is closed, with all written, at the end."""
    store = KVStore(config, "node")
    client = LocalStoreClient(store, config.dram_dir)
    yield Segments(client, RetainedTier(DeviceTierConfig(0)))
    client.close()
    assert store.flush(10)
    store.close()


class Reads:
    """A store whose SSD has `PATH` and lets reads pass one at a time, its client, and segments."""

    def __init__(self, config: StoreConfig) -> None:
        with opened(config) as segments:
            use(segments, PATH)
        self.store = KVStore(config, "node")
        assert self.store.flush(10)
        self.gate = Turnstile.of(self.store)
        self.client = LocalStoreClient(self.store, config.dram_dir)
        self.segments = Segments(self.client, RetainedTier(DeviceTierConfig(2**18)))

    def close(self) -> None:
        self.gate.mend()
        self.gate.allow()
        self.client.close()
        self.settle()
        assert_balanced(self.store)
        self.store.close()

    def settle(self) -> None:
        """No read is under way any more."""
        give_up = time.monotonic() + 30
        while list(self.store._loads) and time.monotonic() < give_up:
            time.sleep(0.005)


@pytest.fixture
def reads(tmp_path: Path) -> Iterator[Reads]:
    reads = Reads(small_config(tmp_path))
    yield reads
    reads.close()


def places(report: CacheReport) -> tuple[int, int, int, int]:
    return report.dram_hits, report.ssd_hits, report.remote_hits, report.computed


def test_hits_are_counted_by_the_tier_that_had_them(tmp_path: Path) -> None:
    config = replace(small_config(tmp_path), remote=f"file://{tmp_path}/remote")
    path = path_of(1, 2)
    with opened(config) as segments:
        assert places(use(segments, path)) == (0, 0, 0, 3)
        assert places(use(segments, path)) == (3, 0, 0, 0)
    with opened(config) as segments:
        assert places(use(segments, path)) == (0, 3, 0, 0)
    with opened(replace(config, ssd_dir="")) as segments:
        report = use(segments, path)
        assert places(report) == (0, 0, 3, 0) and report.hits == 3
        assert report.tokens_reused == sum(spec.layout.num_tokens for spec in path)


def test_a_streamed_lease_computes_a_layer_while_the_next_is_read(reads: Reads) -> None:
    """Header and first layer of both segments are there at once, the other two layers come."""
    segments, gate = reads.segments, reads.gate
    gate.allow(2)
    with segments.lease([PATH], time.monotonic() + 30, streamed=True) as lease:
        assert len(lease.arriving) == gate.num_reads - 2 == 2
        for layer in range(3):
            assert segments.await_layer(lease, layer)
            for spec in PATH:
                there = lease.tensors[spec.key][layer].numpy().tobytes()
                assert there == right_layer(spec, layer)
            gate.allow(1)
        assert segments.unchanged(lease)
        assert places(lease.hits({spec.key for spec in PATH})) == (0, 2, 0, 0)
        assert segments.stats().num_segments == 0, "what arrives is kept when it is whole"
        reads.settle()
    assert segments.stats().num_segments == 2 and reads.store.stats().leases == 1
    assert use(segments, PATH).device_hits == 2


def test_without_anything_on_its_way_no_layer_is_waited_for(reads: Reads) -> None:
    reads.gate.allow()
    reads.client.release(reads.client.acquire([PATH], 30).lease_id)
    with reads.segments.lease([PATH], time.monotonic() + 30, streamed=True) as lease:
        assert not lease.arriving and reads.segments.await_layer(lease, 2)
        assert places(lease.hits({PATH[0].key})) == (1, 0, 0, 0)


@pytest.mark.parametrize("how", ["fails", "is late"])
def test_a_layer_that_does_not_come_is_told_and_nothing_of_it_kept(reads: Reads, how: str) -> None:
    reads.gate.allow(2)
    with reads.segments.lease([PATH], time.monotonic() + 30, streamed=True) as lease:
        assert reads.segments.await_layer(lease, 0)
        if how == "fails":
            reads.gate.fail()
            reads.settle()
        else:
            lease.deadline = time.monotonic() + 0.05
        assert not reads.segments.await_layer(lease, 1)
        assert reads.segments.unchanged(lease) == (how == "is late")
    assert reads.segments.stats().num_segments == reads.store.stats().leases == 0
    reads.gate.mend()
    reads.gate.allow()
    report = use(reads.segments, PATH)
    assert (report.hits, report.computed) == (2, 0)


def test_segments_that_may_come_back_are_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(client: LocalStoreClient, tags: Collection[bytes]) -> int:
        raise RemovalError("ssd", "Input/output error")

    with opened(small_config(tmp_path)) as segments:
        monkeypatch.setattr(LocalStoreClient, "remove_tags", fail)
        with pytest.raises(UnavailableError, match="ssd"):
            segments.forget([bytes(8)])
