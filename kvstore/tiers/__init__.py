"""Where segments are kept."""

from pathlib import Path

from kvstore.arena import Arena
from kvstore.config import StoreConfig
from kvstore.errors import StoreConfigError
from kvstore.tiers.base import Entry, Reader, Tier
from kvstore.tiers.dram import DramTier
from kvstore.tiers.faults import Fault, FaultyFiles
from kvstore.tiers.files import Files
from kvstore.tiers.ssd import SsdTier
from kvstore.types import TierName

__all__ = ["Entry", "Reader", "Tier", "create_dram_tier", "create_ssd_tier", "create_tier"]


def create_tier(name: TierName, config: StoreConfig, node: str) -> Tier:
    """A tier of `node` by its name; raises StoreConfigError when it cannot work here."""
    return create_dram_tier(config, node) if name == "dram" else create_ssd_tier(config)


def create_dram_tier(config: StoreConfig, node: str) -> DramTier:
    return DramTier(Arena(config.dram_dir, node, config.dram_bytes))


def create_ssd_tier(config: StoreConfig) -> SsdTier:
    folder = Path(config.ssd_dir).expanduser()
    try:
        faults = [Fault.parse(line) for line in config.faults]
    except ValueError as error:
        raise StoreConfigError(f"store.faults: {error}") from error
    files = FaultyFiles(faults) if faults else Files()
    return SsdTier(folder, config.ssd_bytes, config.ssd_free_share, files)
