"""What every tier promises, whatever the medium."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from actors.engine.device import DevicePool
from kvstore.errors import CapacityError, CorruptSegmentError, TierUnavailableError
from kvstore.tiers import Tier, create_dram_tier
from kvstore.tiers.remote import create_medium
from kvstore.tiers.slow import SlowTier
from kvstore.types import SegmentSpec
from tests.kvstore.redis_server import RedisServer, redis_server
from tests.kvstore.segments import (
    chain_of,
    crcs_of,
    passage,
    payload,
    recovered,
    small_config,
    ssd_tier,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def dram(tmp_path: Path) -> Tier:
    return create_dram_tier(small_config(tmp_path), "node")


@pytest.fixture
def ssd(tmp_path: Path) -> Tier:
    return ssd_tier(tmp_path / "ssd")


@pytest.fixture
def remote_folder(tmp_path: Path) -> Tier:
    return recovered(SlowTier(create_medium(f"file://{tmp_path}/remote", 10.0), 2**20))


@pytest.fixture
def remote_server(server: RedisServer, tmp_path: Path) -> Tier:
    return recovered(SlowTier(create_medium(server.url(prefix=tmp_path.name), 10.0), 2**20))


@pytest.fixture
def device() -> Tier:
    """The device tier's memory, of a CPU."""
    return DevicePool(torch.device("cpu"), 2**20)


@pytest.fixture(params=["device", "dram", "ssd", "remote_folder", "remote_server"])
def tier(request: pytest.FixtureRequest) -> Iterator[Tier]:
    tier: Tier = request.getfixturevalue(request.param)
    yield tier
    assert tier.check() == []
    tier.close()


def put(tier: Tier, spec: SegmentSpec) -> None:
    tier.put(spec, memoryview(payload(spec)), crcs_of(spec))


def test_what_is_put_is_read_layer_by_layer(tier: Tier) -> None:
    for spec in chain_of([1, 2], [3], passage(4)):
        put(tier, spec)
        reader = tier.open(spec.key)
        assert tier.contains(spec.key) and reader is not None
        with reader:
            assert reader.spec == spec and reader.crcs == crcs_of(spec)
            layers = [bytes(reader.layer(i)) for i in range(spec.layout.num_layers)]
        assert b"".join(layers) == payload(spec)


def test_a_layer_is_read_into_a_given_buffer(tier: Tier) -> None:
    spec = chain_of(passage(1))[0]
    put(tier, spec)
    buffer = memoryview(bytearray(spec.layout.layer_nbytes))
    reader = tier.open(spec.key)
    assert reader is not None
    with reader:
        assert reader.layer(1, buffer) is buffer
    size = spec.layout.layer_nbytes
    assert buffer == payload(spec)[size : 2 * size]


def test_a_miss_is_none(tier: Tier) -> None:
    key = chain_of([1])[0].key
    assert tier.open(key) is None and not tier.contains(key)
    tier.remove(key)


def test_a_put_with_wrong_checksums_is_never_visible(tier: Tier) -> None:
    spec = chain_of([1])[0]
    with pytest.raises(CorruptSegmentError):
        tier.put(spec, memoryview(payload(spec)), (0, 0, 0))
    assert tier.open(spec.key) is None and tier.used_bytes == 0


def test_a_full_tier_refuses_and_keeps_its_bound(tier: Tier) -> None:
    specs = [chain_of(passage(i, 300))[0] for i in range(20)]
    with pytest.raises(CapacityError) as caught:
        for spec in specs:
            put(tier, spec)
    assert 0 < tier.used_bytes <= tier.capacity_bytes
    assert caught.value.needed_bytes > caught.value.free_bytes
    held = list(tier.keys())
    assert sum(entry.nbytes for entry in held) == tier.used_bytes
    tier.remove(held[0].key)
    put(tier, next(s for s in specs if not tier.contains(s.key)))


def test_putting_a_key_again_changes_nothing(tier: Tier) -> None:
    spec = chain_of([1])[0]
    put(tier, spec)
    used = tier.used_bytes
    put(tier, spec)
    assert tier.used_bytes == used and len(list(tier.keys())) == 1


def test_removal_leaves_open_readers_their_bytes_or_an_error(tier: Tier) -> None:
    spec = chain_of(passage(1))[0]
    put(tier, spec)
    reader = tier.open(spec.key)
    assert reader is not None
    tier.remove(spec.key)
    assert not tier.contains(spec.key)
    with reader:
        try:
            assert bytes(reader.layer(0)) == payload(spec)[: spec.layout.layer_nbytes]
        except TierUnavailableError:
            assert tier.name == "remote", "a server has no open files"
    assert tier.used_bytes == 0


def test_keys_are_listed_with_their_specs(tier: Tier) -> None:
    path = chain_of([1], [2], [3])
    for spec in path:
        put(tier, spec)
    entries = tier.keys()
    assert {entry.spec for entry in entries} == set(path)
