"""Segments that are on the SSD only: not in DRAM, and not in the page cache either."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.tiers.segment_files import SUFFIX
from tests.bench.harness import CannotRun, folder_on_disk
from tests.bench.store.segments import drop_cache, resident_share

NUM_SETS = 3
"""Sets of segments asked for in turn; DRAM is full, as that of a cache is, and holds half of them:
what reads one set evicts the one that comes next."""
_FLUSH_S = 60.0


@dataclass(frozen=True, slots=True)
class ColdStore:
    client: LocalStoreClient
    files: tuple[Path, ...]

    def drop_page_cache(self) -> None:
        """CannotRun where the pages stay, as on a file system in memory."""
        drop_cache(self.files)
        share = resident_share(self.files)
        if share > 0.01:
            raise CannotRun(f"{share:.0%} of the segment files stay in the page cache")


@contextmanager
def cold_store(ssd_dir: Path, dram_dir: str) -> Iterator[ColdStore]:
    """A store over a copy of the segment files of another, which are `NUM_SETS` equal sets."""
    with folder_on_disk() as folder:
        shutil.copytree(ssd_dir, folder / "ssd")
        files = tuple((folder / "ssd").rglob(f"*{SUFFIX}"))
        for path in files:
            with path.open("rb+") as file:  # only what is on the disk leaves the page cache
                os.fsync(file.fileno())
        nbytes = sum(path.stat().st_size for path in files)
        config = StoreConfig(
            dram_bytes=int(1.5 * nbytes / NUM_SETS),
            dram_dir=dram_dir,
            ssd_dir=str(folder / "ssd"),
            policy="lru",
            scrub_bytes_per_s=0,
        )
        store = KVStore(config, node="bench-cold")
        client = LocalStoreClient(store, dram_dir)
        try:
            assert store.flush(_FLUSH_S)
            yield ColdStore(client, files)
        finally:
            client.close()
            store.close()
