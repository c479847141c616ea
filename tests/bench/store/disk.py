"""Cold reads and durable writes of the SSD tier against plain calls on the same disk."""

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

from kvstore.checksum import segment_crcs
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.tiers import create_ssd_tier
from kvstore.tiers.files import Files
from kvstore.types import SegmentSpec
from tests.bench.harness import Options
from tests.bench.store.segments import GIB, LAYOUT, config, drop_cache, fill_ssd, in_threads, specs

_BATCH = 24
_WRITES = 8
_THREADS = (1, 2, 4)
_MB = LAYOUT.nbytes / 1e6


def measure(folder: Path, options: Options) -> tuple[dict[str, float], list[dict[str, object]]]:
    rounds = 3 if options.quick else 9
    segments = specs((rounds + 2) * _BATCH)
    files = fill_ssd(folder, segments)
    starts = range(0, len(segments), _BATCH)
    batches = [(segments[i : i + _BATCH], files[i : i + _BATCH]) for i in starts]
    reads = _reads(folder, batches)
    checks = _checksums(folder, segments, files, 20 if options.quick else 60)
    writes = _writes(folder, segments, rounds + 2)
    plain = max((reads[f"pread, {n} threads"] for n in _THREADS), key=statistics.median)
    figures = {
        "ssd_read_ratio": statistics.median(reads["store"]) / statistics.median(plain),
        "ssd_write_ratio": statistics.median(ours / base for base, ours in writes),
        "checksum_share": checks[1] / checks[0] - 1,
    }
    rows = [_row(f"cold reads, {name}, MB/s", rates) for name, rates in reads.items()]
    rows += [
        _row("plain write + fsync, 8 segments, MB/s", [p for p, _ in writes]),
        _row("writes of the tier, 8 segments, MB/s", [o for _, o in writes]),
        _row("one cold layer-wise read without checksums, ms", [checks[0] * 1e3]),
        _row("the same with checksums, ms", [checks[1] * 1e3]),
        _row("the same, warm page cache, GB/s", [LAYOUT.nbytes / checks[2] / 1e9]),
    ]
    return figures, rows


def _reads(
    folder: Path, batches: Sequence[tuple[Sequence[SegmentSpec], Sequence[Path]]]
) -> dict[str, list[float]]:
    """MB/s of every arm, all on the same files, one after the other in every round.

    The store's figure is that of an arena that is full, as that of a cache is: two batches fit, and
    the first two are not counted. Memory that nothing has used yet costs page faults besides.
    """
    full = _Opened(folder, dram_bytes=int(2.2 * _BATCH * LAYOUT.nbytes))
    for segments, _ in batches[:2]:
        full.read(segments)
    rates: dict[str, list[float]] = {f"pread, {n} threads": [] for n in _THREADS}
    rates |= {"store": []}
    for segments, files in batches[2:]:
        for n in _THREADS:
            drop_cache(files)
            seconds = in_threads(n, _pread, files)
            rates[f"pread, {n} threads"].append(len(files) * _MB / seconds)
        drop_cache(files)
        rates["store"].append(len(files) * _MB / full.read(segments))
    full.close()
    fresh, name = _Opened(folder, dram_bytes=2 * GIB), "store, memory never used before"
    rates[name] = []
    for segments, files in batches[2:]:
        drop_cache(files)
        rates[name].append(len(files) * _MB / fresh.read(segments))
    fresh.close()
    return rates


class _Opened:
    """A store over the folder's SSD, and a client."""

    def __init__(self, folder: Path, dram_bytes: int) -> None:
        settings = config(folder, dram_bytes=dram_bytes)
        self._store = KVStore(settings, "bench")
        assert self._store.flush(60)
        self._client = LocalStoreClient(self._store, settings.dram_dir)

    def read(self, segments: Sequence[SegmentSpec]) -> float:
        """Seconds of one request for all of them, none of which is in DRAM."""
        began = time.perf_counter()
        acquired = self._client.acquire([(spec,) for spec in segments], 60)
        seconds = time.perf_counter() - began
        assert {hit.tier for hit in acquired.hits.values()} == {"ssd"} and not acquired.tickets
        self._client.release(acquired.lease_id)
        return seconds

    def close(self) -> None:
        self._client.close()
        self._store.close()


def _pread(path: Path) -> None:
    """Layer by layer, as the tier reads; in one piece it measured slower."""
    buffer = memoryview(bytearray(LAYOUT.layer_nbytes))
    fd = os.open(path, os.O_RDONLY)
    offset = 0
    while done := os.preadv(fd, [buffer], offset):
        offset += done
    os.close(fd)


def _checksums(
    folder: Path, segments: Sequence[SegmentSpec], files: Sequence[Path], repetitions: int
) -> tuple[float, float, float]:
    """Median seconds of a cold read by one thread, without and with checksums; and a warm one."""
    tier = create_ssd_tier(config(folder), Files())
    for stored in tier.recover():
        tier.adopt(stored, recovered=True)
    buffer = memoryview(bytearray(LAYOUT.layer_nbytes))

    def read(spec: SegmentSpec) -> float:
        began = time.perf_counter()
        reader = tier.open(spec.key)
        assert reader is not None
        with reader:
            for layer in range(spec.layout.num_layers):
                reader.layer(layer, buffer)
        return time.perf_counter() - began

    without, checked, warm = [], [], []
    for i in range(repetitions):
        spec, path = segments[i % len(segments)], files[i % len(files)]
        drop_cache([path])
        with mock.patch("kvstore.tiers.segment_object.verify_layer"):
            without.append(read(spec))
        drop_cache([path])
        checked.append(read(spec))
        warm.append(read(spec))
    tier.close()
    return statistics.median(without), statistics.median(checked), statistics.median(warm)


def _writes(
    folder: Path, segments: Sequence[SegmentSpec], rounds: int
) -> list[tuple[float, float]]:
    """(plain write and fsync, the tier) in MB/s, in batches of eight."""
    data = memoryview(bytearray(os.urandom(LAYOUT.nbytes)))
    tier = create_ssd_tier(config(folder / "writes"), Files())
    for _ in tier.recover():
        raise AssertionError("the folder is new")
    found = []
    for i in range(rounds):
        began = time.perf_counter()
        for j in range(_WRITES):
            fd = os.open(folder / f"plain-{i}-{j}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(fd, data)
            os.fsync(fd)
            os.close(fd)
        plain = _WRITES * _MB / (time.perf_counter() - began)
        batch = segments[i * _WRITES : (i + 1) * _WRITES]
        crcs = [segment_crcs(spec, data) for spec in batch]
        began = time.perf_counter()
        for spec, crc in zip(batch, crcs, strict=True):
            tier.put(spec, data, crc)
        found.append((plain, _WRITES * _MB / (time.perf_counter() - began)))
    tier.close()
    return found


def _row(what: str, values: Sequence[float]) -> dict[str, object]:
    low, high = round(min(values), 1), round(max(values), 1)
    return {"what": what, "value": round(statistics.median(values), 2), "min": low, "max": high}
