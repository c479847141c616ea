"""Where segments are kept."""

from pathlib import Path

from kvstore.arena import Arena
from kvstore.codec import MAX_HEADER_NBYTES, NOBODY
from kvstore.compression import create_codec
from kvstore.config import StoreConfig
from kvstore.errors import StoreConfigError
from kvstore.seal import Seal
from kvstore.tiers.base import Entry, Reader, Tier
from kvstore.tiers.dram import DramTier
from kvstore.tiers.faults import Fault, FaultyFiles
from kvstore.tiers.files import Files
from kvstore.tiers.folder import Folder
from kvstore.tiers.identity import identity
from kvstore.tiers.remote import create_medium, with_secret
from kvstore.tiers.sharing import Sharing
from kvstore.tiers.slow import SlowTier

__all__ = [
    "Entry",
    "Reader",
    "Tier",
    "create_dram_tier",
    "create_files",
    "create_remote_tier",
    "create_ssd_tier",
]

_QUARANTINE_SHARE = 16


def create_dram_tier(config: StoreConfig, node: str) -> DramTier:
    arena = Arena(config.dram_dir, node, config.dram_bytes)
    return DramTier(arena, config.tenant_share)


def create_files(config: StoreConfig) -> Files:
    """The disk's file operations. Raises StoreConfigError."""
    try:
        faults = [Fault.parse(line) for line in config.faults]
    except ValueError as error:
        raise StoreConfigError(f"store.faults: {error}") from error
    return FaultyFiles(faults) if faults else Files()


def create_ssd_tier(config: StoreConfig, files: Files) -> SlowTier:
    """Of the files that are there it knows what is recovered. Raises StoreConfigError."""
    folder = Path(config.ssd_dir).expanduser()
    codec = create_codec(config.codec)
    medium = Folder(folder, config.ssd_bytes // _QUARANTINE_SHARE, files)
    try:
        return SlowTier(medium, config.ssd_bytes, config.ssd_free_share, codec)
    except BaseException:
        medium.close()
        raise


def create_remote_tier(config: StoreConfig, node: str) -> SlowTier:
    """Behind the SSD tier, whose folder it needs (`identity.py`). Raises StoreConfigError for a URL
    that cannot be used here."""
    seal = Seal.read(config.remote_mac_key_file) if config.remote_mac_key_file else None
    url = with_secret(config.remote, config.remote_secret_file)
    codec = create_codec(config.codec)
    medium = create_medium(url, config.remote_timeout_s, seal.digest if seal else NOBODY, codec)
    sharing = Sharing(
        writer=identity(config, node),
        evicts=config.remote_eviction == "owner",
        seal=seal,
        max_object_bytes=config.dram_bytes + MAX_HEADER_NBYTES,
    )
    return SlowTier(medium, config.remote_bytes, codec=codec, sharing=sharing)
