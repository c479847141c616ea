"""Fused segments: computed in sight of neighbours, kept as if nothing stood before them."""

import time
from dataclasses import replace

import pytest
import torch

from actors.engine.config import DeviceTierConfig, GeneratorConfig
from actors.engine.device import create_device_tier
from actors.engine.fusion.offline import Fuser
from actors.engine.fusion.rotation import Rotation
from actors.engine.generate import GenerateEngine, Sequence
from actors.engine.lanes import Lane
from actors.engine.packed import Batch
from actors.engine.runtime import Runtime
from actors.engine.segments import Segments
from actors.errors import ExpiredError, RequestError
from actors.messages import FusedSegment, Neighbourhood
from kvstore.keys import fused_path, fused_tag, make_root, neighbours_digest, tag
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.actors.engine.fusion.test_prefill import engine
from tests.actors.engine.generating import request
from tests.actors.engine.texts import PASSAGES

NEIGHBOURS = (PASSAGES[1], PASSAGES[2])


def fuser(runtime: Runtime, client: LocalStoreClient, max_tokens: int = 4096) -> Fuser:
    cpu = runtime.decoder.device
    segments = Segments(client, create_device_tier(client, cpu, DeviceTierConfig()))
    return Fuser(runtime, segments, max_tokens, Rotation.of(runtime.decoder))


def stored(runtime: Runtime, client: LocalStoreClient, neighbours: tuple[str, ...]) -> torch.Tensor:
    """The fused segment of the first passage, as the store has it."""
    root = make_root(runtime.decoder.fingerprint, "t")
    passage = runtime.prompt.passage(PASSAGES[0])
    digest = neighbours_digest(neighbours)
    path = fused_path(root, runtime.prompt.prefix, passage, digest, runtime.decoder.layout)
    segments = Segments(
        client, create_device_tier(client, runtime.decoder.device, DeviceTierConfig())
    )
    with segments.lease([path], time.monotonic() + 5, claim=False) as lease:
        return lease.tensors[path[-1].key].clone()


def behind(runtime: Runtime, neighbours: tuple[str, ...]) -> torch.Tensor:
    """The reference: raw neighbours one behind the other, the passage computed, turned back."""
    decoder, prefix = runtime.decoder, runtime.prompt.prefix
    rotation, passage = Rotation.of(decoder), runtime.prompt.passage(PASSAGES[0])
    kv, at = decoder.empty_kv(2048), len(prefix)
    decoder.forward(Batch([Lane(prefix, sinks=(kv[:, :, :, :at],))]))
    for tokens in map(runtime.prompt.passage, neighbours):
        place = kv[:, :, :, at : at + len(tokens)]
        decoder.forward(Batch([Lane(tokens, [kv[:, :, :, : len(prefix)]], (place,))]))
        rotation.move(place[:, 0], at - len(prefix), out=place[:, 0])
        at += len(tokens)
    own = kv[:, :, :, at : at + len(passage)]
    decoder.forward(Batch([Lane(passage, [kv[:, :, :, :at]], (own,))]))
    rotation.move(own[:, 0], len(prefix) - at, out=own[:, 0])
    return own


def test_a_fused_segment_is_the_passage_behind_its_neighbours_turned_back(
    runtime: Runtime, client: LocalStoreClient, store: KVStore
) -> None:
    report = fuser(runtime, client).fuse("t", PASSAGES[0], NEIGHBOURS, 60)
    assert report.computed == 1
    found = stored(runtime, client, NEIGHBOURS)
    torch.testing.assert_close(found, behind(runtime, NEIGHBOURS), atol=1e-3, rtol=0)
    assert store.check().ok


def test_it_is_computed_once_for_the_same_neighbours_in_the_same_order(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    made = fuser(runtime, client)
    computed = [
        made.fuse("t", PASSAGES[0], neighbours, 60).computed
        for neighbours in (NEIGHBOURS, NEIGHBOURS, NEIGHBOURS[::-1], NEIGHBOURS[:1], NEIGHBOURS)
    ]
    assert computed == [1, 0, 1, 1, 0]


def test_neighbours_that_do_not_fit_are_left_out_and_none_is_no_fusion(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    sizes = [len(runtime.prompt.passage(p)) for p in PASSAGES[:2]]
    room = len(runtime.prompt.prefix) + sum(sizes)
    assert fuser(runtime, client, room).fuse("t", PASSAGES[0], NEIGHBOURS, 60).computed == 1
    found = stored(runtime, client, NEIGHBOURS)
    torch.testing.assert_close(found, behind(runtime, NEIGHBOURS[:1]), atol=1e-3, rtol=0)
    again = (PASSAGES[1], PASSAGES[0])
    assert fuser(runtime, client, room - 1).fuse("t", PASSAGES[0], again, 60).computed == 0
    assert fuser(runtime, client).fuse("t", PASSAGES[3], (), 60).computed == 0


def test_the_generator_takes_the_variant_that_the_request_names(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    fuser(runtime, client).fuse("t", PASSAGES[0], NEIGHBOURS, 60)
    fusion = engine(runtime, client, 0.0)

    def values(neighbours: tuple[bytes, ...]) -> tuple[torch.Tensor, Sequence]:
        asked = replace(request(3, 0), neighbours=neighbours)
        sequence = fusion.start(asked, time.monotonic() + 60)
        first = len(runtime.prompt.prefix) + len(runtime.prompt.passage(PASSAGES[3]))
        size = len(runtime.prompt.passage(PASSAGES[0]))
        return sequence.kv[:, 1, :, first : first + size], sequence

    digest = neighbours_digest(NEIGHBOURS)
    expected = stored(runtime, client, NEIGHBOURS)[:, 1]
    raw, _ = values(())
    fused, sequence = values((b"", digest))
    other, _ = values((b"", neighbours_digest(("unknown",))))
    assert torch.equal(fused, expected) and not torch.equal(raw, expected)
    assert torch.equal(other, raw), "a variant that is not there falls back to the raw segment"
    assert sequence.cache.computed == 0 and sequence.cache.hits == 2
    first, _ = values((digest, b""))
    assert torch.equal(first, raw), "the first passage is exact: never fused"


def test_it_goes_with_its_own_tag_and_not_with_another_s(
    runtime: Runtime, client: LocalStoreClient
) -> None:
    made = fuser(runtime, client)
    made.fuse("t", PASSAGES[0], NEIGHBOURS, 60)
    root = make_root(runtime.decoder.fingerprint, "t")
    passage = tag(root, runtime.prompt.passage(PASSAGES[0]))
    client.remove_tags([passage])
    assert made.fuse("t", PASSAGES[0], NEIGHBOURS, 60).computed == 0
    assert client.remove_tags([fused_tag(passage, neighbours_digest(NEIGHBOURS))]) == 1
    assert made.fuse("t", PASSAGES[0], NEIGHBOURS, 60).computed == 1


def test_time_that_is_up_is_an_error(runtime: Runtime, client: LocalStoreClient) -> None:
    with pytest.raises(ExpiredError):
        fuser(runtime, client).fuse("t", PASSAGES[0], NEIGHBOURS, 0.0)


def test_a_store_that_is_gone_makes_nothing(
    runtime: Runtime, client: LocalStoreClient, store: KVStore
) -> None:
    made = fuser(runtime, client)
    store.close()
    assert made.fuse("t", PASSAGES[0], NEIGHBOURS, 60).store == "unavailable"


def test_the_engine_makes_and_forgets_them(
    runtime: Runtime, client: LocalStoreClient, store: KVStore
) -> None:
    fusing = engine(runtime, client, 0.0)
    passage = Neighbourhood(PASSAGES[0], NEIGHBOURS)
    assert fusing.fuse("t", passage, 60).computed == 1
    assert store.flush(10)
    segment = FusedSegment(passage.text, neighbours_digest(passage.neighbours))
    other = replace(segment, neighbours=b"other")
    assert [fusing.forget("t", (), [one]) for one in (other, segment, segment)] == [0, 1, 0]
    assert fusing.fuse("t", passage, 60).computed == 1, "it has to be made again"


def test_a_mode_without_use_for_them_refuses(runtime: Runtime, client: LocalStoreClient) -> None:
    prefix = GenerateEngine(runtime, GeneratorConfig(mode="prefix"), client)
    with pytest.raises(RequestError, match=r"generator\.mode.*'prefix'"):
        prefix.fuse("t", Neighbourhood(PASSAGES[0], NEIGHBOURS), 60)
