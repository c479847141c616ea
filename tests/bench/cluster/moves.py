"""A fourth node joins three: what moves, and what that does to reads meanwhile."""

import statistics
import time
from dataclasses import dataclass
from typing import Any

import ray

from kvstore.types import Path
from tests.bench.cluster.reads import passages
from tests.bench.harness import tracked
from tests.cluster.nodes import Engine, Nodes

READS = 4
"""Segments of a foreground request."""


class Foreground(Engine):
    """Reads what its own node has, over and over."""

    def read_for(self, paths: list[Path], seconds: float) -> list[float]:
        """Seconds of each request."""
        taken, give_up, i = list[float](), time.monotonic() + seconds, 0
        while time.monotonic() < give_up:
            own = [paths[(i + j) % len(paths)] for j in range(READS)]
            start = time.perf_counter()
            acquired = self._client.acquire(own, 30.0)
            for hit in acquired.hits.values():
                view = self._client.view(acquired, hit.extent)
                sum(view[:: 2**16])  # every page is touched
            self._client.release(acquired.lease_id)
            taken.append(time.perf_counter() - start)
            i += READS
            time.sleep(0.005)
        return taken


@dataclass(frozen=True, slots=True)
class Moved:
    share: float
    """Of the segments, those with another owner."""
    nbytes: int
    slowdown: float
    """Of foreground reads while it moves, over the ones before: medians."""
    seconds: float


def measure(cluster: Nodes, num_segments: int) -> Moved:
    writer, reader = cluster.engine("b"), cluster.engine("a", Foreground)
    paths = passages(100_000, num_segments)
    for path in tracked(paths, "storing"):
        ray.get(writer.use.remote(path), timeout=60)
    ray.get(writer.call.remote("flush", 60.0), timeout=70)
    before = cluster.membership()
    kept = cluster.owned_by("a", paths)
    ray.get(reader.read_for.remote(kept, 2.0), timeout=60)
    quiet = ray.get(reader.read_for.remote(kept, 8.0), timeout=60)
    started = time.monotonic()
    cluster.add("d")
    while len(cluster.membership().members) < 4:
        time.sleep(0.05)
    busy = list[float]()
    while cluster.membership().before:
        busy += ray.get(reader.read_for.remote(kept, 1.0), timeout=60)
    seconds = time.monotonic() - started
    after = cluster.membership()
    placements = [path[-1].key.placement for path in paths]
    pairs = list(zip(before.all_owners(placements), after.all_owners(placements), strict=True))
    status: dict[str, Any] = ray.get(cluster.directory.status.remote(), timeout=20)
    nbytes = sum(node["moved_bytes"] for node in status["nodes"])
    share = sum(old != new for old, new in pairs) / len(pairs)
    slowdown = statistics.median(busy) / statistics.median(quiet)
    return Moved(share, nbytes, slowdown, seconds)
