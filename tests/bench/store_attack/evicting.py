"""A miss in a full arena: its time beside pinned segments, and what a large one evicts."""

import random
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from kvstore.local import LocalStoreClient
from kvstore.types import Path as Chain
from tests.bench.harness import Options, spread
from tests.bench.store_attack.tiny import MEMORY, fill, opened, passages, store_all

NUM_SEGMENTS = 20_000
_MISSES = 64
_LARGE_SHARE = 0.045
_SMALL_GRANULES = 4_000
"""An arena of 16 MiB, in which segments of one to four granules were used in random order."""


def measure(options: Options) -> tuple[dict[str, float], list[dict[str, object]]]:
    repetitions = 7 if options.quick else 25
    with TemporaryDirectory(dir=MEMORY) as folder:
        free, pinned = _misses(Path(folder), repetitions)
    with TemporaryDirectory(dir=MEMORY) as folder:
        shares = [_evicted_by_large(Path(folder), options.seed + i) for i in range(5)]
    ratios = [p / f for f, p in zip(free, pinned, strict=True)]
    rows: list[dict[str, object]] = [
        spread(f"{_MISSES} misses, none of {NUM_SEGMENTS} segments pinned", free),
        spread(f"{_MISSES} misses, the oldest quarter pinned", pinned),
        {"what": "arena evicted by a segment of 4.5 % of it", "shares": shares},
    ]
    figures = {
        "miss_us_pinned_ratio": round(statistics.median(ratios), 3),
        "evicted_share_large": max(shares),
    }
    return figures, rows


def _misses(folder: Path, repetitions: int) -> tuple[list[float], list[float]]:
    """Seconds of each request of 64 new passages; in turns in two stores that are both full."""
    stores = [opened(folder, NUM_SEGMENTS) for _ in range(2)]
    paths = passages(NUM_SEGMENTS - 1)
    for n, (_, client) in enumerate(stores):
        leases = fill(client, paths[: NUM_SEGMENTS // 4])
        for lease_id in leases if n == 0 else ():
            client.release(lease_id)
        store_all(client, paths[NUM_SEGMENTS // 4 :])
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(repetitions):
        new = passages(_MISSES, start=NUM_SEGMENTS + turn * _MISSES)
        for of_arm, (_, client) in zip(times, stores, strict=True):
            began = time.perf_counter()
            acquired = client.acquire(new, 600.0)
            of_arm.append(time.perf_counter() - began)
            assert all(ticket.extent for ticket in acquired.tickets.values())
            client.release(acquired.lease_id)
            store_all(client, new)
    for store, client in stores:
        client.close()
        store.close()
    return times


def _evicted_by_large(folder: Path, seed: int) -> float:
    """Share of the arena."""
    rng = random.Random(seed)
    store, client = opened(folder, _SMALL_GRANULES)
    paths = [p for n in range(4) for p in passages(_SMALL_GRANULES // 8, 10_000 * (n + 1), n + 1)]
    rng.shuffle(paths)
    store_all(client, paths)
    _use_in_random_order(client, rng, paths)
    before, capacity = store.stats().dram.used_bytes, store.stats().dram.capacity_bytes
    assert before > 0.95 * capacity, "the arena is full"
    (large,) = passages(1, 99_999, int(_LARGE_SHARE * capacity) // 4096)
    acquired = client.acquire([large], 600.0)
    assert acquired.tickets[large[-1].key].extent is not None, "it found room"
    evicted = before + large[-1].layout.nbytes - store.stats().dram.used_bytes
    client.close()
    store.close()
    return round(evicted / capacity, 4)


def _use_in_random_order(client: LocalStoreClient, rng: random.Random, paths: list[Chain]) -> None:
    for path in rng.sample(paths, len(paths)):
        client.release(client.acquire([path], 60.0, claim=False).lease_id)
