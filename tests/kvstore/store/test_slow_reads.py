"""A medium that is slow and gives something all the time does not hang: what counts is the time
since its last bytes."""

import threading
import time
from pathlib import Path as FilePath

import pytest

from kvstore.config import StoreConfig
from kvstore.tiers.bucket import Bucket
from kvstore.tiers.guarded import Guarded
from kvstore.tiers.local_place import LocalPlace
from kvstore.tiers.medium import Source, Written
from kvstore.tiers.slow import SlowTier
from kvstore.types import SegmentKey
from tests.kvstore.segments import assert_right_bytes, crcs_of, payload
from tests.kvstore.store.streaming import HEADER, LAYERS, PATH, SPEC, Disk

_TIMEOUT_S = 1.0
_DELAY_S = 0.3
"""Of each read; all of a segment's take longer than the timeout."""


@pytest.mark.parametrize("streamed", [False, True])
def test_a_read_that_goes_on_is_waited_for_however_long_the_whole_takes(
    config: StoreConfig, streamed: bool
) -> None:
    disk = Disk(config, read_timeout_s=_TIMEOUT_S)
    disk.gate.delay_s = _DELAY_S
    disk.gate.allow()
    began = time.monotonic()
    acquired = disk.client.acquire([PATH], 60, streamed)
    assert not acquired.tickets
    assert_right_bytes(disk.client, acquired)
    assert time.monotonic() - began > _TIMEOUT_S
    assert not disk.store._books.levels[0].slow
    disk.gate.delay_s = 0.0
    disk.client.release(acquired.lease_id)
    disk.close()


def test_waiting_for_a_layer_ends_when_nothing_comes_any_more(disk: Disk) -> None:
    """Layers come one by one, each in less than the patience, all of them in more; then none."""
    disk.gate.allow(HEADER + 1)
    acquired = disk.streamed()
    (hit,) = acquired.hits.values()

    def let_pass() -> None:
        for _ in range(LAYERS - 2):
            time.sleep(0.3)
            disk.gate.allow(1)

    passing = threading.Thread(target=let_pass)
    passing.start()
    last_but_one = LAYERS - 2
    assert disk.client.await_layer(acquired, [hit.extent], last_but_one, 60, stall_s=1.0)
    passing.join()
    assert not disk.client.await_layer(acquired, [hit.extent], LAYERS - 1, 600, stall_s=0.1)
    disk.gate.allow()
    disk.client.release(acquired.lease_id)


class SlowBucket(Bucket):
    """Every read, and every piece of a write, takes its time."""

    def __init__(self, folder: FilePath) -> None:
        super().__init__(LocalPlace(folder / "segments"))
        self.delay_s = 0.0

    def write(self, key: SegmentKey, header: bytes, payload: memoryview) -> Written:
        time.sleep(self.delay_s * LAYERS)
        return super().write(key, header, payload)

    def open(self, name: str) -> Source:
        return SlowSource(self, super().open(name))


class SlowSource(Source):
    def __init__(self, bucket: SlowBucket, source: Source) -> None:
        self._bucket, self._source, self.nbytes = bucket, source, source.nbytes

    def read(self, into: memoryview, offset: int) -> int:
        time.sleep(self._bucket.delay_s)
        return self._source.read(into, offset)

    def close(self) -> None:
        self._source.close()


def test_a_call_has_time_for_every_piece_that_it_moves(
    tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large layer on a slow link takes longer than a call may; each piece of it does not."""
    piece = SPEC.layout.layer_nbytes // 4
    monkeypatch.setattr("kvstore.tiers.segment_object._PIECE_BYTES", piece)
    monkeypatch.setattr("kvstore.tiers.guarded._PIECE_BYTES", piece)
    bucket = SlowBucket(tmp_path)
    tier = SlowTier(Guarded(bucket, 1, 60.0, _TIMEOUT_S), 2**20)
    bucket.delay_s = _DELAY_S
    tier.put(SPEC, memoryview(payload(SPEC)), crcs_of(SPEC))
    reader = tier.open(SPEC.key)
    assert reader is not None
    with reader:
        began = time.monotonic()
        layer = reader.layer(0)
        assert time.monotonic() - began > _TIMEOUT_S
        assert reader.last_bytes_at > began + _TIMEOUT_S / 2
    assert layer == payload(SPEC)[: SPEC.layout.layer_nbytes]
    tier.close()
