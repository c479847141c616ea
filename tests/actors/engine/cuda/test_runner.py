"""Batches through the GPU's runner, its streams and graphs replaced by a CPU's, against our own
CPU path."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from actors.engine.cache import LayerLostError
from actors.engine.cuda import CudaRunner, LayerLoader, cascade_reference
from actors.engine.device.staging import Staging
from actors.engine.lanes import Lane
from actors.engine.models import Decoder
from actors.engine.packed import Batch
from tests.actors.engine.cuda.passes import CPU
from tests.actors.engine.logged_streams import LoggedStreams

Build = Callable[[], tuple[Decoder, Any]]
PREFIX, PASSAGES, FIXED = [5, 6, 7], ([9] * 12, [11, 12], [8] * 5), [3, 4]
QUESTIONS = ([21, 22, 23], [24], [25, 26, 27, 28, 29, 30])


class Eager:
    """A recorded pass that is run anew."""

    def __init__(self, run: Callable[[], Tensor]) -> None:
        self._run = run
        self.output = run()

    def __call__(self) -> None:
        self.output = self._run()


def _runner(decoder: Decoder) -> CudaRunner:
    loader = LayerLoader(decoder.layout, CPU, LoggedStreams(), Staging(CPU).gather)
    return CudaRunner(decoder.model, decoder.layout, CPU, cascade_reference, Eager, loader)


def _stored(decoder: Decoder) -> tuple[Tensor, list[list[Tensor]]]:
    prefix = decoder.empty_kv(len(PREFIX))
    decoder.forward(Batch([Lane(PREFIX, sinks=(prefix,))]))
    kvs = [[decoder.empty_kv(len(p)), decoder.empty_kv(len(FIXED))] for p in PASSAGES]
    lanes = [Lane([*p, *FIXED], sinks=kv) for p, kv in zip(PASSAGES, kvs, strict=True)]
    decoder.forward(Batch(lanes, prefix))
    return prefix, kvs


def test_questions_over_stored_kv_and_the_kv_that_is_computed(build_tiny: Build) -> None:
    decoder, _ = build_tiny()
    runner = _runner(decoder)
    prefix, kvs = _stored(decoder)
    again = [[torch.zeros_like(kv) for kv in lane] for lane in kvs]
    lanes = [Lane([*p, *FIXED], sinks=kv) for p, kv in zip(PASSAGES, again, strict=True)]
    runner.forward(Batch(lanes, prefix))
    for ours, theirs in zip(again, kvs, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert (one - other).abs().max() < 1e-4
    lanes = [Lane(q, kv) for q, kv in zip(QUESTIONS, kvs, strict=True)]
    assert runner.takes(Batch(lanes, prefix))
    hidden = runner.forward(Batch(lanes, prefix))
    assert (hidden - decoder.forward(Batch(lanes, prefix))).abs().max() < 1e-4


@pytest.mark.parametrize("family", ["llama"], indirect=True)
def test_rows_of_a_padded_graph_come_back_in_order(build_tiny: Build) -> None:
    """Three lanes in a bucket of four, of 3, 1 and 6 tokens in one of eight; and again."""
    decoder, _ = build_tiny()
    runner = _runner(decoder)
    for questions in (QUESTIONS, QUESTIONS[::-1]):
        batch = Batch([Lane(question) for question in questions])
        assert (runner.forward(batch) - decoder.forward(batch)).abs().max() < 1e-4
    assert len(runner._graphs.shapes) == 1


@pytest.mark.parametrize("family", ["llama"], indirect=True)
def test_a_layer_that_is_lost_ends_the_pass(build_tiny: Build) -> None:
    decoder, _ = build_tiny()
    prefix, kvs = _stored(decoder)
    lanes = [Lane(q, kv) for q, kv in zip(QUESTIONS, kvs, strict=True)]
    asked: list[int] = []

    def arrive(layer: int) -> bool:
        asked.append(layer)
        return layer < 1

    for forward in (_runner(decoder).forward, decoder.forward):
        asked.clear()
        with pytest.raises(LayerLostError):
            forward(Batch(lanes, prefix, arrive=arrive))
        assert asked == [0, 1]


@pytest.mark.parametrize("family", ["llama"], indirect=True)
def test_growing_buffers_are_not_for_the_kernel(build_tiny: Build) -> None:
    decoder, _ = build_tiny()
    kv = decoder.empty_kv(9)
    runner = _runner(decoder)
    lane = Lane([1], [kv[:, :, :, :8]], (kv[:, :, :, 8:],), joined=kv)
    assert not runner.takes(Batch([lane]))
    assert not runner.takes(Batch([Lane([1, 2], [kv[:, :, :, :8]])]))
