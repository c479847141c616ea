"""A DRAM hit, from the call to a tensor in another process; and what a checksum costs."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path

from kvstore.arena import ArenaMap
from kvstore.checksum import segment_crcs
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired, SegmentSpec
from kvstore.types import Path as Chain
from tests.bench.harness import Options
from tests.bench.store.segments import LAYOUT, config, specs

_SEGMENTS = 20
_BEYOND_CACHES = 100


def measure(folder: Path, options: Options) -> tuple[dict[str, float], list[dict[str, object]]]:
    repetitions = 50 if options.quick else 300
    settings = config(folder, ssd_dir="")
    store = KVStore(settings, "bench")
    client = LocalStoreClient(store, settings.dram_dir)
    paths = [(spec,) for spec in specs(_SEGMENTS)]
    acquired = client.acquire(paths, 10)
    client.commit(acquired, list(acquired.tickets.values()))
    client.release(acquired.lease_id)

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_reader, args=(theirs,))
    child.start()
    one, whole, used = [], [], []
    for i in range(repetitions):
        pin = _timed_acquire(store, client, [paths[i % _SEGMENTS]], ours)
        one.append(pin[0] + pin[1])
        used.append(pin[1])
        whole.append(sum(_timed_acquire(store, client, paths, ours)))
    ours.send(None)
    child.join(10)
    crc, copied = _per_segment(paths[0][0], repetitions)
    client.close()
    store.close()
    pin_us = statistics.median(one) * 1e6
    rows: list[dict[str, object]] = [
        {"what": "DRAM hit to tensor, one segment of 5.9 MB, us", "value": round(pin_us, 1)},
        {
            "what": "of that in the reading process, us",
            "value": round(statistics.median(used) * 1e6, 1),
        },
        {
            "what": f"a request of {_SEGMENTS} segments, us",
            "value": round(statistics.median(whole) * 1e6, 1),
        },
        {"what": "copying one segment instead, us", "value": round(copied * 1e6, 1)},
        {"what": "checksums of one segment, us", "value": round(crc * 1e6, 1)},
    ]
    return {"dram_pin_us": pin_us, "checksum_gb_s": LAYOUT.nbytes / crc / 1e9}, rows


def _timed_acquire(
    store: KVStore, client: LocalStoreClient, paths: Sequence[Chain], pipe: Connection
) -> tuple[float, float]:
    """Seconds of matching and pinning here, and of making tensors of it there."""
    began = time.perf_counter()
    acquired = store.acquire(paths, client.holder_id, 10)
    pinned = time.perf_counter() - began
    pipe.send(acquired)
    used: float = pipe.recv()
    store.release(acquired.lease_id, client.holder_id)
    return pinned, used


def _per_segment(spec: SegmentSpec, repetitions: int) -> tuple[float, float]:
    """Median seconds of a segment's checksums and of copying it, out of more than caches hold."""
    segments = [memoryview(bytearray(LAYOUT.nbytes)) for _ in range(_BEYOND_CACHES)]
    turn, target = cycle(segments), bytearray(LAYOUT.nbytes)
    crc = _seconds(lambda: segment_crcs(spec, next(turn)), repetitions)
    copied = _seconds(lambda: target.__setitem__(slice(None), next(turn)), repetitions)
    return crc, copied


def _reader(pipe: Connection) -> None:
    """Another process of the node: it maps the arena once, as a client does."""
    from actors.engine.lease import as_tensor

    arena: ArenaMap | None = None
    while (acquired := pipe.recv()) is not None:
        assert isinstance(acquired, Acquired)
        arena = arena or ArenaMap(acquired.arena)
        began = time.perf_counter()
        tensors = [as_tensor(arena.view(h.extent), h.spec) for h in acquired.hits.values()]
        sound = all(arena.unchanged(hit.extent) for hit in acquired.hits.values())
        pipe.send(time.perf_counter() - began)
        assert sound and all(tensor.data_ptr() for tensor in tensors)


def _seconds(call: Callable[[], object], repetitions: int) -> float:
    """Median of one call."""
    times = []
    for _ in range(repetitions):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)
