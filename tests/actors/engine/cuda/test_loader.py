from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from actors.engine.cuda import LayerLoader, cascade_parts
from actors.engine.device.staging import Staging
from kvstore.types import Layout
from tests.actors.engine.cuda.passes import CPU
from tests.actors.engine.logged_streams import LoggedStreams

LAYOUT = Layout(4, 2, 1, 8, "float32")


@pytest.fixture
def streams() -> LoggedStreams:
    return LoggedStreams()


@pytest.fixture
def loader(streams: LoggedStreams) -> LayerLoader:
    staging = Staging(CPU, buffer_bytes=1000)  # less than one layer

    def gather(pieces: Sequence[Tensor], target: Tensor) -> None:
        streams.log.append(f"copy {sum(map(len, pieces))}")
        staging.gather(pieces, target)

    return LayerLoader(LAYOUT, CPU, streams, gather)


def random_kvs(*tokens: int) -> list[Tensor]:
    return [torch.randn(4, 2, 2, n, 8) for n in tokens]


def test_slots_hold_what_the_sources_held(loader: LayerLoader) -> None:
    sources = random_kvs(3, 17, 1)
    loading = loader.begin(sources)
    loading.wait_all()
    for slot, kv in zip(loading.slots, sources, strict=True):
        assert torch.equal(slot, kv)
    cascade_parts([loading.slots], [1], LAYOUT, CPU)  # they can be read in place


def test_layers_come_one_by_one_each_before_its_wait(
    loader: LayerLoader, streams: LoggedStreams
) -> None:
    sources = random_kvs(2, 1)
    arrived: list[int] = []
    loading = loader.begin(sources, arrived.append)
    streams.log.clear()
    loading.wait(0)
    assert streams.log == ["copy 384", "record", "wait 0"] and arrived == [0]
    assert torch.equal(loading.slots[0][0], sources[0][0])
    assert not torch.equal(loading.slots[0][1], sources[0][1])
    loading.wait(0)
    assert streams.log[3:] == ["wait 0"]
    loading.wait(2)
    assert streams.log[4:] == ["copy 384", "record", "copy 384", "record", "wait 2"]
    assert arrived == [0, 1, 2]


def test_slots_are_taken_again_only_behind_the_pass_before(
    loader: LayerLoader, streams: LoggedStreams
) -> None:
    loader.begin(random_kvs(8)).wait_all()
    before = len(streams.log)
    second = random_kvs(2, 5)
    loading = loader.begin(second)
    assert streams.log[before:] == ["follow"]
    loading.wait_all()
    assert all(torch.equal(a, b) for a, b in zip(loading.slots, second, strict=True))


def test_nothing_to_load(loader: LayerLoader) -> None:
    loading = loader.begin([])
    loading.wait_all()
    assert loading.slots == []
