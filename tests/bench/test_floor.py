"""The floor of a warm rerank: its arithmetic, and what it measures with a tiny model."""

from collections.abc import Callable
from typing import Any

import pytest

from actors.engine.lanes import Lane
from actors.engine.models import Decoder
from actors.engine.packed import Batch
from tests.bench.floor import Floor, FloorTimes, Work, above_floor, counted_rows


def test_the_floor_is_the_faster_pass_and_head_and_copy() -> None:
    times = FloorTimes(stock=0.3, decoder=0.2, head=0.1, copy=0.05)
    assert times.total == pytest.approx(0.35)


def test_the_share_above_the_floor_is_the_median_over_repetitions() -> None:
    floors = [FloorTimes(1.0, 1.0, 0.5, 0.5), FloorTimes(2.0, 1.0, 0.0, 0.0)]
    assert above_floor([3.0, 1.1], floors) == pytest.approx((0.5 + 0.1) / 2)


def test_every_part_of_the_floor_takes_time(
    build_tiny: Callable[[], tuple[Decoder, Any]],
) -> None:
    decoder, stock = build_tiny()
    floor = Floor(decoder, stock, Work(lanes=4, rows=6, scored=5, kv_bytes=2**20))
    times = floor.measure()
    assert min(times.stock, times.decoder, times.head, times.copy) > 0
    assert min(times.stock, times.decoder) < times.total


def test_the_floor_computes_the_rows_it_is_the_floor_of(
    build_tiny: Callable[[], tuple[Decoder, Any]],
) -> None:
    decoder, stock = build_tiny()
    with counted_rows() as counted:
        Floor(decoder, stock, Work(lanes=4, rows=6, scored=5, kv_bytes=64)).measure()
    assert counted.passes == [24]


def test_rows_of_all_passes_are_counted_and_no_longer_outside(
    build_tiny: Callable[[], tuple[Decoder, Any]],
) -> None:
    decoder, _ = build_tiny()
    with counted_rows() as counted:
        decoder.forward(Batch([Lane([1, 2, 3]), Lane([4, 5])]))
        decoder.forward(Batch([Lane([6])]))
    decoder.forward(Batch([Lane([7])]))
    assert counted.passes == [5, 1]
