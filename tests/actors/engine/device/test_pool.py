"""Copies in a pool; the contract of a tier is tests/contracts/test_tier.py."""

import pytest
import torch

from actors.engine.config import DeviceTierConfig
from actors.engine.device import DevicePool, create_device_tier
from actors.engine.device.pooled import PoolTier
from actors.engine.device.retained import RetainedTier
from kvstore.errors import CapacityError
from kvstore.local import LocalStoreClient
from tests.actors.engine.device.kv import path_of, right_kv, same

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def test_a_copy_does_not_follow_its_source_and_reads_back_verified() -> None:
    pool = DevicePool(torch.device("cpu"), 2**16)
    spec = path_of(1)[1]
    source = right_kv(spec)
    kept = pool.fill(spec, source)
    source.zero_()
    assert same(kept, spec) and pool.fill(spec, source) is not source
    reader = pool.open(spec.key)
    assert reader is not None
    with reader:
        assert b"".join(bytes(reader.layer(i)) for i in range(3)) == kept.numpy().tobytes()
    assert pool.check() == []


def test_strided_sources_are_copied_as_they_read() -> None:
    """The generator's segments are slices of a sequence's buffer."""
    pool = DevicePool(torch.device("cpu"), 2**16)
    spec = path_of(1)[1]
    buffer = torch.zeros(3, 2, 2, 100, 8)
    slot = buffer[:, :, :, 20 : 20 + spec.layout.num_tokens]
    slot.copy_(right_kv(spec))
    assert same(pool.fill(spec, slot), spec)


def test_a_full_pool_says_how_much_is_missing() -> None:
    pool = DevicePool(torch.device("cpu"), 2**14)
    pool.fill(path_of(1)[1], right_kv(path_of(1)[1]))
    with pytest.raises(CapacityError) as caught:
        pool.fill(path_of(2)[1], right_kv(path_of(2)[1]))
    assert (caught.value.needed_bytes, caught.value.free_bytes) == (12288, 4096)


def test_a_cpu_gets_pins_and_off_takes_no_memory(client: LocalStoreClient) -> None:
    on, off = DeviceTierConfig(2**20), DeviceTierConfig(0)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert isinstance(create_device_tier(client, cpu, on), RetainedTier)
    assert isinstance(create_device_tier(client, gpu, off), RetainedTier)
    assert isinstance(create_device_tier(None, gpu, on), RetainedTier)


@pytest.mark.gpu
@needs_cuda
def test_a_gpu_gets_copies_that_are_right(client: LocalStoreClient) -> None:
    gpu = torch.device("cuda")
    assert isinstance(create_device_tier(client, gpu, DeviceTierConfig(2**20)), PoolTier)
    pool = DevicePool(gpu, 2**20)
    for number in range(20):
        spec = path_of(number)[1]
        source = right_kv(spec)
        kept = pool.fill(spec, source)
        source.zero_()
        assert kept.is_cuda and same(kept, spec)
    assert pool.check() == []
