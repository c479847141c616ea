"""The store's status as metrics: tiers and counters by node, and the membership."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from cluster.metrics.families import counter, gauge, tabulated
from cluster.services import Status
from kvstore.membership import MemberState
from kvstore.types import STORE_TIERS

Report = tuple[tuple[str, ...], dict[str, Any]]

TIERS = (
    gauge("capacity_bytes", "tier_capacity_bytes", "What a tier of a node may hold"),
    gauge("used_bytes", "tier_used_bytes", "What it holds"),
    gauge("num_segments", "tier_segments", "Segments in it"),
    counter("hits", "tier_hits", "Segments asked for and found in it"),
    counter("evictions", "tier_evictions", "Segments that had to make room"),
    counter("read_bytes", "tier_read_bytes", "Read from it into DRAM"),
    counter("written_bytes", "tier_written_bytes", "Written to it from DRAM"),
    counter("write_failures", "tier_write_failures", "Writes that failed"),
    counter("writes_dropped", "tier_writes_dropped", "Segments that were not written: queue full"),
    gauge("write_queue", "tier_write_queue_segments", "Segments that wait to be written"),
    counter("codec_misses", "tier_codec_misses", "Objects passed over: written with more loss"),
    gauge("tombstones", "tier_tombstones", "Deleted passages that may still be on its medium"),
)
COUNTERS = (
    counter("misses", "store_misses", "Segments asked for that no tier of the node had"),
    counter("waits", "store_waits", "Segments that another was computing when asked for"),
    counter("commits", "store_commits", "Segments published: computed, or from another node"),
    counter("aborts", "store_aborts", "Claims of which nothing came"),
    counter("no_room", "store_no_room", "Segments for which DRAM had no room"),
    counter("corrupt", "store_corrupt_segments", "Segments whose checksum was wrong"),
    counter(
        "unauthenticated",
        "store_unauthenticated_segments",
        "Objects of the remote tier that were not used for want of the right MAC",
    ),
    counter("prefetch_reads", "store_prefetch_reads", "Segments read ahead for queued requests"),
    counter("prefetch_used", "store_prefetched", "What became of those", outcome="used"),
    counter("prefetch_late", "store_prefetched", "What became of those", outcome="late"),
    counter("prefetch_unused", "store_prefetched", "What became of those", outcome="unused"),
    gauge("leases", "store_leases", "Requests that hold segments"),
    gauge("open_tickets", "store_open_tickets", "Segments being computed"),
    gauge("copies_bytes", "store_copies_bytes", "DRAM taken by copies of other nodes' segments"),
)
NODES = (
    gauge("capacity_bytes", "node_capacity_bytes", "What decides a node's share of the segments"),
    gauge("guests", "node_guest_leases", "Leases that other nodes hold here"),
    counter("sent_bytes", "node_sent_bytes", "KV that other nodes got from here"),
    counter("received_bytes", "node_received_bytes", "KV that other nodes gave here to keep"),
    counter("moved_bytes", "node_rebalanced_bytes", "Of the sent, because the membership changed"),
    counter("moved_segments", "node_rebalanced_segments", "The same in segments"),
    gauge("waiting_segments", "node_rebalance_waiting_segments", "Not confirmed by their owners"),
    gauge("unplaced_segments", "node_unplaced_segments", "Their owners had no room for them"),
)
THREADS = (
    gauge("up", "thread_up", "Whether a background thread of the node's shard runs"),
    counter("failures", "thread_failures", "What failed in it and was skipped"),
)
WHOLE = (
    gauge("epoch", "membership_epoch", "Grows with each change of the membership"),
    gauge("moving", "membership_moving", "1 while segments move to new owners"),
    gauge("replication", "membership_replication", "Owners of a segment"),
)


def store_families(status: Status) -> list[Metric]:
    """Of `StoreService.status`. A node whose shard does not answer has `hyperrag_node_up` 0 and no
    tiers."""
    nodes = status["nodes"]
    answered = [node for node in nodes if isinstance(node["store"], dict)]
    own = [((node["name"],), node["store"]) for node in answered]
    up = [((node["name"],), {"up": isinstance(node["store"], dict)}) for node in nodes]
    return [
        *tabulated(TIERS, ("node", "tier"), _tiers(answered)),
        *tabulated(COUNTERS, ("node",), own),
        *tabulated(NODES, ("node",), [((node["name"],), node) for node in nodes]),
        *tabulated((gauge("up", "node_up", "Whether the node's shard answered"),), ("node",), up),
        *tabulated(THREADS, ("node", "thread"), _threads(answered)),
        *tabulated(WHOLE, (), [((), status)]),
        _members(nodes),
    ]


def _tiers(nodes: list[Status]) -> Iterator[Report]:
    """Those that are configured."""
    for node in nodes:
        for name in STORE_TIERS:
            tier = node["store"].get(name)
            if tier is not None and tier["capacity_bytes"] > 0:
                yield (node["name"], name), tier


def _threads(nodes: list[Status]) -> Iterator[Report]:
    for node in nodes:
        for name, thread in node["store"].get("threads", {}).items():
            yield (node["name"], name), thread


def _members(nodes: list[Status]) -> Metric:
    family = GaugeMetricFamily("hyperrag_members", "Nodes of the store", labels=["state"])
    found = Counter(node["state"] for node in nodes)
    for state in get_args(MemberState):
        family.add_metric([state], found[state])
    return family
