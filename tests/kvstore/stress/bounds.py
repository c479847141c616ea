"""Is every bound kept at this moment? Looked at from outside, while others change everything."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

from kvstore.arena_file import PREFIX
from kvstore.config import StoreConfig
from kvstore.store import KVStore
from kvstore.tiers.segment_files import SUFFIX

MIB = 2**20
STORE_GROWTH_BYTES = 64 * MIB
WORKER_BYTES = 256 * MIB


class Bounds:
    """Of one store, in this process. `violations` says what was exceeded, by how much."""

    def __init__(self, store: KVStore, config: StoreConfig) -> None:
        self._store = store
        self._config = config
        self._process = psutil.Process()
        self._memory_bytes = self._process.memory_info().rss
        self.samples = 0
        self.violations: list[str] = []

    def sample(self) -> None:
        """Arena, tiers, disk."""
        self.samples += 1
        stats = self._store.stats()
        self._require("DRAM tier", stats.dram.used_bytes, stats.dram.capacity_bytes)
        self._require("SSD tier", stats.ssd.used_bytes, stats.ssd.capacity_bytes)
        arenas = sum(p.stat().st_size for p in Path(self._config.dram_dir).glob(f"{PREFIX}*"))
        self._require("arena", arenas, self._config.dram_bytes)
        self._require("SSD folder", bytes_at_once(self._config.ssd_dir), self._config.ssd_bytes)

    def sample_memory(self, workers: list[int]) -> None:
        """Of this process, since the start, and of the workers with these process ids."""
        grown = self._process.memory_info().rss - self._memory_bytes
        self._require("memory of the store's process", grown, STORE_GROWTH_BYTES)
        for pid in workers:
            try:
                used = psutil.Process(pid).memory_info().rss
            except psutil.NoSuchProcess:
                continue  # it ended meanwhile
            self._require("memory of a worker", used, WORKER_BYTES)

    def _require(self, what: str, used: int, most: int) -> None:
        if used > most:
            self.violations.append(f"sample {self.samples}: {what} is {used} bytes, at most {most}")


def bytes_at_once(folder: str) -> int:
    """Bytes of segment files that were there together, at the end of the walk: never more than
    there were.

    A walk alone could count a file that made room and the one that took it. No name is used twice,
    so what is there before and after was there all the time.
    """
    seen = {entry.inode(): (entry.path, _size(entry.path)) for entry in _files(folder)}
    return sum(size for path, size in seen.values() if _size(path) > 0)


def _files(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(entry.path)
            elif entry.name.endswith(SUFFIX):
                yield entry


def _size(path: str) -> int:
    """0 where nothing is any more."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
