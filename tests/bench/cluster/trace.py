"""RAGPulse's requests, as fast as they are answered, on three nodes and on one as large as those
three; then with two copies of everything, a node lost half-way.

Every passage is a chain of its own, as in the reranker. Keys, store and nodes are real; the KV is a
few bytes a token, and right or the run fails. How large a store is, is said of its SSD tiers: DRAM
is half as large, for what is in use and for copies of what another node owns. Scarce SSDs take
what is seen a second time: at this speed the writer of one node does not keep up with all that is
new, and what it drops decides how much is found.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

import ray
from ray.exceptions import RayError

from kvstore.config import StoreConfig
from kvstore.types import Path
from tests.bench.harness import tracked
from tests.bench.trace_reuse import LAYOUT, Passages, chains_of
from tests.cluster.nodes import Engine, Nodes, nodes

SHARE = 0.25
"""Of the trace's distinct passage tokens, what the stores have room for where it is scarce."""
AT_ONCE = 6
"""Requests."""
DEADLINE_S = 60.0


class Replayer(Engine):
    def ask(self, paths: list[Path]) -> tuple[int, int]:
        """Passage tokens that were found somewhere, and all that were asked for."""
        sources = self.use(*dict.fromkeys(paths), timeout_s=DEADLINE_S)
        own = [path[-1] for path in paths]
        found = [spec for spec in own if sources[spec.key.digest] != "computed"]
        num_found, num_asked = (sum(s.layout.num_tokens for s in some) for some in (found, own))
        return num_found, num_asked


@dataclass(slots=True)
class Replay:
    found: int = 0
    asked: int = 0
    completed: int = 0
    failed: int = 0
    writes_dropped: int = 0
    """By the SSD tiers."""

    def row(self, arm: str) -> dict[str, Any]:
        return {
            "arm": arm,
            "found": round(self.found / self.asked, 4),
            "completed": self.completed,
            "failed": self.failed,
            "writes_dropped": self.writes_dropped,
        }


def measure(
    requests: Sequence[Passages], folder: FilePath
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Figures and rows."""
    distinct = dict(passage for request in requests for passage in request)
    every = sum(distinct.values()) * LAYOUT.nbytes
    room = int(SHARE * every)
    scarce = {"ssd_admission": "second_use"}
    with nodes(_config(folder / "one", room, **scarce)) as cluster:
        single = _replay(cluster, requests, "aaa", "one node")
    with nodes(_config(folder / "three", room // 3, **scarce), "b", "c") as cluster:
        shared = _replay(cluster, requests, "abc", "three nodes")
    whole = _with_two_copies(requests, folder / "whole", every, lambda _: None)
    lost = _with_two_copies(requests, folder / "lost", every, lambda cluster: cluster.kill("c"))
    runs = {
        "one node": single,
        "three nodes": shared,
        "replication 2, second half": whole,
        "replication 2, second half, a node lost before it": lost,
    }
    failed = max(run.failed / (run.failed + run.completed) for run in runs.values())
    figures = {
        "trace_completed_share": round(1 - failed, 5),
        "hit_ratio_vs_single": round(shared.found / shared.asked * single.asked / single.found, 4),
        "r2_hit_drop": round(1 - lost.found / lost.asked * whole.asked / whole.found, 4),
    }
    return figures, [run.row(arm) for arm, run in runs.items()]


def _with_two_copies(
    requests: Sequence[Passages], folder: FilePath, nbytes: int, between: Callable[[Nodes], None]
) -> Replay:
    """Of the second half of the requests, which no engine of the third node is asked."""
    half = len(requests) // 2
    with nodes(_config(folder, nbytes, replication=2), "b", "c") as cluster:
        first = _replay(cluster, requests[:half], "ab", "first half")
        between(cluster)
        second = _replay(cluster, requests[half:], "ab", "second half")
    second.failed += first.failed
    return second


def _config(folder: FilePath, ssd_bytes: int, **changes: Any) -> StoreConfig:
    return StoreConfig(
        dram_bytes=ssd_bytes // 2,
        ssd_dir=f"{folder}/{{node}}",
        ssd_bytes=ssd_bytes,
        write_queue=4096,
        **changes,
    )


def _replay(cluster: Nodes, requests: Sequence[Passages], where: str, what: str) -> Replay:
    """An engine for each letter, on the node it names; they are asked in turn."""
    engines = [cluster.engine(name, Replayer) for name in where]
    run, open_calls = Replay(), deque[Any]()
    for i, request in enumerate(tracked(list(requests), what)):
        if len(open_calls) == AT_ONCE:
            _count(open_calls.popleft(), run)
        open_calls.append(engines[i % len(engines)].ask.remote(chains_of(request)))
    for call in open_calls:
        _count(call, run)
    stats = ray.get([cluster.shard(name).stats.remote() for name in set(where)], timeout=60)
    run.writes_dropped = sum(s.ssd.writes_dropped for s in stats)
    return run


def _count(call: Any, run: Replay) -> None:
    try:
        found, asked = ray.get(call, timeout=DEADLINE_S)
    except RayError:
        run.failed += 1
    else:
        run.completed, run.found, run.asked = (
            run.completed + 1,
            run.found + found,
            run.asked + asked,
        )
