"""Reading from another node: through the store, what `ray.get` of the same bytes takes, and what a
call takes that returns them. The store's bytes lie in an arena, as those of the call in a process:
both have to become an object of Ray's first, which `ray.get` alone finds done.
"""

import statistics
import time
from collections import defaultdict
from typing import Any

import numpy as np
import ray

from kvstore.keys import make_path, make_root
from kvstore.types import Layout, Path
from tests.bench.harness import tracked
from tests.cluster.nodes import Engine, Nodes

LAYOUT = Layout(30, 3, 0, 64, "bfloat16")
"""SmolLM2-135M's; 256 tokens are 5.9 MB."""
TOKENS = 256
TOGETHER = 10
"""Segments of the larger request."""


class Owner(Engine):
    """On the node that has the segments, and the same bytes as objects of Ray's."""

    def hold(self, num: int, nbytes: int) -> None:
        rng = np.random.default_rng(num)
        self._held = [rng.integers(0, 256, nbytes, np.uint8) for _ in range(num)]

    def put(self) -> list[Any]:
        """What it holds, as objects."""
        return [ray.put(array) for array in self._held]

    def give(self) -> list[Any]:
        """What it holds."""
        return self._held


class Reader(Engine):
    """On another node."""

    def read(self, paths: list[Path]) -> float:
        start = time.perf_counter()
        acquired = self._client.acquire(paths, 30.0)
        seconds = time.perf_counter() - start
        tiers = {acquired.hits[path[-1].key].tier for path in paths}
        assert tiers == {"peer"}, f"found in {tiers}"
        self._client.release(acquired.lease_id)
        return seconds

    def get(self, refs: list[Any]) -> float:
        start = time.perf_counter()
        values = ray.get(refs, timeout=60)
        seconds = time.perf_counter() - start
        assert all(value.nbytes for value in values)
        return seconds

    def asking(self, owner: Any) -> float:
        start = time.perf_counter()
        values = ray.get(owner.give.remote(), timeout=60)
        seconds = time.perf_counter() - start
        assert all(value.nbytes for value in values)
        return seconds


def passages(first: int, num: int) -> list[Path]:
    root = make_root(b"bench", "cluster")
    return [make_path(root, ([1] * 8, [n] * TOKENS), LAYOUT) for n in range(first, first + num)]


def measure(cluster: Nodes, repetitions: int) -> dict[str, Any]:
    """Seconds of both, alternating: one segment, and some in one request."""
    owner, reader = (cluster.engine(name, kind) for name, kind in (("b", Owner), ("a", Reader)))
    wanted = repetitions * (1 + TOGETHER) + 1
    paths = cluster.owned_by("b", passages(2, 3 * wanted))[:wanted]
    for path in tracked(paths, "storing"):
        ray.get(owner.use.remote(path), timeout=60)
    ray.get(reader.read.remote([paths.pop()]), timeout=60)  # connections, and the prompt prefix
    nbytes = paths[0][-1].layout.nbytes
    rows = defaultdict[str, list[float]](list)
    for i in tracked(range(repetitions), "reading"):
        own = paths[i * (1 + TOGETHER) : (i + 1) * (1 + TOGETHER)]
        for size, some in (("1", own[:1]), ("n", own[1:])):
            ray.get(owner.hold.remote(len(some), nbytes), timeout=60)
            refs = ray.get(owner.put.remote(), timeout=60)
            rows[f"ray_{size}"].append(ray.get(reader.get.remote(refs), timeout=60))
            rows[f"call_{size}"].append(ray.get(reader.asking.remote(owner), timeout=60))
            rows[f"store_{size}"].append(ray.get(reader.read.remote(some), timeout=60))
            del refs
    return rows


def ratio(ours: list[float], baseline: list[float]) -> float:
    """How much of the baseline's rate ours has: the median of pairs."""
    return round(statistics.median(b / o for o, b in zip(ours, baseline, strict=True)), 3)
