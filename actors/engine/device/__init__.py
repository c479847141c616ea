"""The device tier: KV of recent requests where the engine's next pass reads it."""

import torch

from actors.engine.config import DeviceTierConfig
from actors.engine.device.base import DeviceTier
from actors.engine.device.pool import DevicePool
from actors.engine.device.pooled import PoolTier
from actors.engine.device.residents import Loan, Stored
from actors.engine.device.retained import RetainedTier
from kvstore.client import StoreClient

__all__ = ["DevicePool", "DeviceTier", "Loan", "Stored", "create_device_tier"]


def create_device_tier(
    client: StoreClient | None, device: torch.device, config: DeviceTierConfig
) -> DeviceTier:
    """Copies in the memory of a GPU; on a CPU, whose memory the arena is, pins of the arena.

    Its memory is taken here; none without a store to keep segments of.
    """
    if client is None or not config.bytes or device.type == "cpu":
        return RetainedTier(config)
    return PoolTier(DevicePool(device, config.bytes), config)
