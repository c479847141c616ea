"""Segments of true shape for measuring: those of SmolLM2-135M, 256 tokens, 5.9 MB."""

import ctypes
import mmap
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kvstore.checksum import segment_crcs
from kvstore.config import StoreConfig
from kvstore.keys import make_path, make_root
from kvstore.tiers import create_ssd_tier
from kvstore.tiers.files import Files
from kvstore.tiers.segment_files import SUFFIX
from kvstore.types import Layout, SegmentSpec

LAYOUT = Layout(num_layers=30, num_kv_heads=3, num_tokens=256, head_dim=64, dtype="bfloat16")
GIB = 2**30
_LIBC = ctypes.CDLL(None, use_errno=True)


def specs(number: int, layout: Layout = LAYOUT) -> list[SegmentSpec]:
    """Segments with no parent, each of other tokens."""
    root = make_root(b"bench", "")
    return [make_path(root, [[i] * layout.num_tokens], layout)[0] for i in range(number)]


def config(folder: Path, **changes: object) -> StoreConfig:
    settings: dict[str, object] = {"dram_bytes": 2 * GIB, "ssd_dir": str(folder / "ssd")}
    settings |= {"ssd_bytes": 8 * GIB, "ssd_free_share": 0.9}
    return StoreConfig(**{**settings, **changes})  # type: ignore[arg-type]


def fill_ssd(folder: Path, segments: Sequence[SegmentSpec]) -> list[Path]:
    """Puts them into the SSD tier; their files, in the same order."""
    data = memoryview(bytearray(os.urandom(segments[0].layout.nbytes)))
    tier = create_ssd_tier(config(folder), Files())
    for stored in tier.recover():
        tier.adopt(stored, recovered=True)
    for spec in segments:
        tier.put(spec, data, segment_crcs(spec, data))
    tier.close()
    files = {p.name.partition(".")[0]: p for p in (folder / "ssd").glob(f"?/?/*{SUFFIX}")}
    return [files[str(spec.key)] for spec in segments]


def drop_cache(files: Sequence[Path]) -> None:
    """Out of the page cache; they are synced already."""
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def resident_share(files: Sequence[Path]) -> float:
    """Share of the files' pages that are in the page cache."""
    pages = resident = 0
    for path in files:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE) as mapped:
            found = (ctypes.c_ubyte * -(-len(mapped) // mmap.PAGESIZE))()
            start = ctypes.c_char.from_buffer(mapped)
            failed = _LIBC.mincore(ctypes.byref(start), ctypes.c_size_t(len(mapped)), found)
            del start  # or the mapping cannot be closed
            if failed:
                raise OSError(ctypes.get_errno(), "mincore")
            pages += len(found)
            resident += sum(page & 1 for page in found)
    return resident / pages


def in_threads(number: int, work: Callable[[Path], None], files: Sequence[Path]) -> float:
    """Seconds until `work` was done on every file by so many threads."""
    queue, lock = iter(files), threading.Lock()

    def go() -> None:
        while True:
            with lock:
                path = next(queue, None)
            if path is None:
                return
            work(path)

    threads = [threading.Thread(target=go) for _ in range(number)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began
