"""The store over several Ray nodes of this machine: reads from another node, moves, a real trace,
and device tiers as one cache.

Nodes share two cores and one disk: what is compared ran in turns, on the same nodes.
"""

from dataclasses import asdict, replace
from typing import Any

from kvstore.config import StoreConfig
from tests.bench.cluster import hits, moves, reads, trace
from tests.bench.harness import Options, Result, folder_on_disk, spread
from tests.bench.trace_reuse import load_requests
from tests.cluster.nodes import nodes

_DRAM_BYTES = 2**30


def run(options: Options) -> Result:
    rows: list[dict[str, Any]] = []
    requests = load_requests()[: 300 if options.quick else None]
    with folder_on_disk() as folder:
        config = StoreConfig(dram_bytes=_DRAM_BYTES, ssd_dir=f"{folder}/ssd-{{node}}")
        with nodes(replace(config, copies_share=0.6), "b") as cluster:
            seconds = reads.measure(cluster, 3 if options.quick else 9)
        rows += [spread(arm, own) for arm, own in seconds.items()]
        with nodes(config, "b", "c") as cluster:
            moved = moves.measure(cluster, 40 if options.quick else 160)
        rows.append({"arm": "a fourth node joins", **asdict(moved)})
        replayed, replays = trace.measure(requests, folder)
        rows += replays
    shared = hits.measure(40 if options.quick else 200, options.seed)
    uniform = shared[0]
    rows += shared
    figures = {
        "device_hit_gain_4": float(uniform["gain"]),
        "device_hit_affinity": float(uniform["split"]),
        "moved_share_3_to_4": round(moved.share, 4),
        "foreground_slowdown": round(moved.slowdown, 3),
        "rebalance_bytes": float(moved.nbytes),
        "remote_read_ratio": reads.ratio(seconds["store_1"], seconds["ray_1"]),
        f"remote_read_ratio_{reads.TOGETHER}": reads.ratio(seconds["store_n"], seconds["ray_n"]),
        "remote_read_ratio_of_a_call": reads.ratio(seconds["store_1"], seconds["call_1"]),
        **replayed,
    }
    return Result({"store": asdict(config) | {"ssd_dir": "a folder for each node"}}, figures, rows)
