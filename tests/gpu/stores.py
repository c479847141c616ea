"""A store with two sets of candidates, of which DRAM holds little more than one: reading them in
turn reads nearly all of each from the SSD."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from actors.engine.config import DeviceTierConfig
from actors.engine.device import DevicePool
from actors.engine.device.pooled import PoolTier
from actors.engine.device.retained import RetainedTier
from actors.engine.segments import Segments
from kvstore.arena import GRANULE
from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from tests.gpu.candidates import Candidates


@dataclass(frozen=True, slots=True)
class Stocked:
    sets: tuple[Candidates, Candidates]
    """Stored; those that come first are in the device tier too."""
    through_device: Segments
    through_store: Segments
    folder: Path

    def drop_page_cache(self) -> None:
        for path in self.folder.rglob("*"):
            if path.is_file():
                file = os.open(path, os.O_RDONLY)
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(file)


@contextmanager
def stocked(
    first: Candidates, second: Candidates, device: torch.device, folder: Path, dram_dir: str
) -> Iterator[Stocked]:
    specs = {spec.key: spec for path in first.paths for spec in path}.values()
    set_bytes = sum(-(-spec.layout.nbytes // GRANULE) * GRANULE for spec in specs)
    config = StoreConfig(
        dram_bytes=6 * set_bytes // 5 + GRANULE,  # of the tables, where a set is tiny
        dram_dir=dram_dir,
        ssd_dir=str(folder),
        ssd_bytes=4 * set_bytes,
        ssd_free_share=0.95,
        write_queue=4 * len(specs),
        read_timeout_s=120.0,
        scrub_bytes_per_s=0,
        policy="lru",
    )
    store = KVStore(config, "gpu")
    client = LocalStoreClient(store, dram_dir)
    try:
        plain = Segments(client, RetainedTier(DeviceTierConfig()))
        for candidates in (first, second):
            candidates.store(plain)
            assert store.flush(300), "the SSD takes what DRAM will not hold"
        tier = PoolTier(DevicePool(device, 2 * set_bytes), DeviceTierConfig(2 * set_bytes))
        kept = Segments(client, tier)
        with first.lease(kept) as lease:
            assert not lease.tickets, "the store has the whole set"
        yield Stocked((first, second), kept, plain, folder)
    finally:
        client.close()
        store.close()
