"""KV that moves beside the passes: the same answers, whatever is lost on the way."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from actors.engine.compute import ComputeSlot
from actors.engine.config import DeviceTierConfig, EngineConfig, GeneratorConfig, Overlap
from actors.engine.device import DevicePool, Stored
from actors.engine.device.pooled import PoolTier
from actors.engine.device.staging import Staging
from actors.engine.generate import GenerateEngine
from actors.engine.models import Decoder
from actors.engine.overlap import LayerClock, LayerCopies, Move
from actors.engine.prompt import Prompt
from actors.engine.runtime import Runtime
from kvstore.client import StoreClient
from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired, SegmentSpec
from tests.actors.engine.generating import decoded, started
from tests.actors.engine.logged_streams import LoggedStreams

CPU = torch.device("cpu")
MODES: tuple[Overlap, ...] = get_args(Overlap)
Full = Callable[..., list[list[int]]]


def engine(runtime: Runtime, client: LocalStoreClient, overlap: Overlap) -> GenerateEngine:
    return GenerateEngine(runtime, GeneratorConfig(overlap=overlap), client)


def segments(num: int = 3, layers: int = 5, dtype: torch.dtype = torch.float32) -> list[Move]:
    """Pieces of one buffer, as a prompt's are."""
    buffer = torch.zeros(layers, 2, 2, 4 * num, 8, dtype=dtype)
    sources = [torch.randn(layers, 2, 2, 4, 8).to(dtype) for _ in range(num)]
    return [Move(kv, buffer[:, :, :, 4 * i : 4 * i + 4]) for i, kv in enumerate(sources)]


@pytest.fixture(scope="module")
def full_tokens(decoder: Decoder, prompt: Prompt, tmp_path_factory: pytest.TempPathFactory) -> Full:
    """What full computation answers over passages in an order; computed once."""
    slot = ComputeSlot(EngineConfig(compute_slot=False), str(tmp_path_factory.mktemp("full")))
    full = GenerateEngine(
        Runtime(decoder, prompt, slot, threads=1), GeneratorConfig(mode="full"), None
    )
    return cache(lambda *order: decoded(full, started(full, *order)))


@pytest.mark.parametrize("overlap", MODES)
def test_answers_and_what_is_stored_are_the_same_in_every_mode(
    runtime: Runtime,
    client: LocalStoreClient,
    store: KVStore,
    full_tokens: Full,
    overlap: Overlap,
) -> None:
    ours = engine(runtime, client, overlap)
    for order, hits in (((0, 1), 0), ((0, 1, 2), 3), ((0, 1, 2), 4), ((2,), 1)):
        sequence = started(ours, *order)
        assert decoded(ours, sequence) == full_tokens(*order)
        assert sequence.cache.hits == hits
    ours.close()
    assert store.check().ok and store.stats().open_tickets == 0 and store.stats().leases == 0


@contextmanager
def over_disk(folder: Path, *faults: str) -> Iterator[tuple[KVStore, LocalStoreClient]]:
    config = StoreConfig(
        dram_bytes=2**28,
        dram_dir=str(folder),
        ssd_dir=str(folder / "ssd"),
        ssd_bytes=2**30,
        faults=faults,
    )
    store = KVStore(config, node="test")
    client = LocalStoreClient(store, str(folder))
    assert store.flush(10)
    yield store, client
    client.close()
    store.close()


@pytest.mark.parametrize("overlap", MODES)
@pytest.mark.parametrize(
    ("fault", "hits"), [("read rate 2e8", 3), ("read eio share 0.1", None), ("read flip", 0)]
)
def test_from_a_disk_that_is_slow_or_broken_too(
    runtime: Runtime, tmp_path: Path, overlap: Overlap, fault: str, hits: int | None
) -> None:
    with over_disk(tmp_path) as (store, client):
        expected = started(engine(runtime, client, "none"), 0, 1).last
        assert store.flush(10)
    with over_disk(tmp_path, fault) as (store, client):
        ours = engine(runtime, client, overlap)
        sequence = started(ours, 0, 1)
        assert sequence.last == expected
        assert hits is None or sequence.cache.hits == hits
        ours.close()
        assert store.stats().leases == store.stats().open_tickets == 0


class CountingTier(PoolTier):
    """A GPU's tier in a CPU's memory."""

    from_host = 0

    def _load(
        self, client: StoreClient, acquired: Acquired, stored: Stored, spec: SegmentSpec
    ) -> torch.Tensor | None:
        self.from_host += stored.on_device is None
        return super()._load(client, acquired, stored, spec)


@pytest.mark.parametrize(("overlap", "from_host"), [("store", 3), ("both", 0)])
def test_a_pool_takes_in_what_a_pass_has_brought_to_the_device(
    runtime: Runtime,
    client: LocalStoreClient,
    full_tokens: Full,
    overlap: Overlap,
    from_host: int,
) -> None:
    """From the host it is copied once: layer by layer, for the pass."""
    started(engine(runtime, client, "none"), 0, 1)
    tier = CountingTier(DevicePool(CPU, 2**27), DeviceTierConfig(2**27))
    ours = GenerateEngine(runtime, GeneratorConfig(overlap=overlap), client, tier)
    for dram, device in ((3, 0), (0, 3)):
        sequence = started(ours, 0, 1)
        assert decoded(ours, sequence) == full_tokens(0, 1)
        assert (sequence.cache.dram_hits, sequence.cache.device_hits) == (dram, device)
    assert tier.from_host == from_host
    assert tier.check() == []
    ours.close()


def test_an_event_a_layer_puts_the_pass_behind_its_copies() -> None:
    streams = LoggedStreams()
    copies = LayerCopies("test", True, CPU, streams)
    clock = copies.begin(segments(), may_copy=lambda layer: True)
    assert clock.wait_end()
    copied = ["follow", *["keep"] * 6, *["record"] * 5]
    assert streams.log == [*copied, "wait 4"]
    assert clock.wait(2) and clock.wait(0)
    assert streams.log == [*copied, "wait 4", "wait 2", "wait 0"]
    copies.close()


def test_layers_that_a_pass_computed_at_once_lie_behind_one_event() -> None:
    streams = LoggedStreams()
    clock = LayerCopies("test", False, CPU, streams).clock()
    clock.reach(0)
    clock.reach(1)
    clock.reach(4)
    assert clock.wait(0) and clock.wait(2) and clock.wait(3)
    assert streams.log == ["record", "record", "wait 0", "wait 1", "wait 1"]


@pytest.mark.parametrize("buffer_bytes", [100, 10_000])
def test_every_byte_arrives_through_staging_too(buffer_bytes: int) -> None:
    for move in segments(dtype=torch.bfloat16):
        copy = move.layer_copy(Staging(CPU, buffer_bytes))
        for layer in range(5):
            copy(layer)
        assert torch.equal(move.target, move.source)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("beside", [True, False])
def test_every_byte_arrives(dtype: torch.dtype, beside: bool) -> None:
    copies, moves = LayerCopies("test", beside, CPU), segments(dtype=dtype)
    ended: list[bool] = []
    clock = copies.begin(moves, may_copy=lambda layer: True, done=ended.append)
    assert clock.wait_end() and clock.wait(4)
    copies.close()
    assert ended == [True]
    assert all(torch.equal(target, source) for source, target in moves)


def test_a_layer_is_copied_once_it_may_be_and_the_next_one_later() -> None:
    copies, moves = LayerCopies("test", True, CPU), segments()
    there = [threading.Event() for _ in range(5)]
    clock = copies.begin(moves, may_copy=lambda layer: there[layer].wait(5))
    for layer in range(5):
        assert not moves[0].target[layer].any()
        there[layer].set()
        assert clock.wait(layer)
        assert torch.equal(moves[2].target[layer], moves[2].source[layer])
    assert clock.wait_end()
    copies.close()


@pytest.mark.parametrize("beside", [True, False])
def test_a_layer_that_never_comes_ends_the_copy(beside: bool) -> None:
    copies, moves = LayerCopies("test", beside, CPU), segments()
    ended: list[bool] = []
    clock = copies.begin(moves, may_copy=lambda layer: layer < 3, done=ended.append)
    assert clock.wait(2) and not clock.wait(3) and not clock.wait_end()
    copies.close()
    assert ended == [False]
    assert not moves[0].target[3:].any()


def test_bytes_that_changed_meanwhile_are_not_whole() -> None:
    copies = LayerCopies("test", True, CPU)
    clock = copies.begin(segments(), may_copy=lambda layer: True, is_valid=lambda: False)
    assert not clock.wait_end()
    copies.close()


def test_a_copy_that_fails_says_so_and_the_next_one_works() -> None:
    copies = LayerCopies("test", True, CPU)
    wrong = [Move(torch.ones(5, 2, 2, 4, 8), torch.ones(5, 2, 2, 3, 8))]
    assert not copies.begin(wrong, may_copy=lambda layer: True).wait_end()
    assert copies.begin(segments(), may_copy=lambda layer: True).wait_end()
    copies.close()


def test_open_copies_are_bounded() -> None:
    copies, gate, begun = LayerCopies("test", True, CPU), threading.Event(), []

    def begin_four() -> None:
        for i in range(4):
            copies.begin(segments(), may_copy=lambda layer: gate.wait(5))
            begun.append(i)

    thread = threading.Thread(target=begin_four)
    thread.start()
    time.sleep(0.2)
    assert begun == [0, 1]
    gate.set()
    thread.join(5)
    assert begun == [0, 1, 2, 3]
    copies.close()


@given(reached=st.lists(st.integers(0, 9), max_size=5), layer=st.integers(0, 9))
def test_a_clock_never_goes_back(reached: list[int], layer: int) -> None:
    clock = LayerClock()
    for done in reached:
        clock.reach(done)
    clock.end(whole=True)
    clock.end(whole=False)
    assert clock.wait(layer) == (max(reached, default=0) > layer)
    assert clock.wait_end()
