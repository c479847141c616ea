"""The deployments' status as metrics: a series for each replica, on the node where it runs."""

from collections.abc import Mapping

from prometheus_client.metrics_core import Metric

from cluster.metrics.families import counter, gauge, tabulated
from cluster.services import Status

LABELS = ("deployment", "replica", "node")
HITS = "Segments that requests of the replica found, by where"
REPLICAS = (
    gauge("waiting", "replica_queue_length", "Requests that wait; of the reranker also those done"),
    gauge("changes_waiting", "replica_queue_length", "Requests that wait"),
    gauge("active", "replica_active_requests", "Requests that are being answered"),
    counter("requests", "replica_requests", "Requests that were answered"),
    counter("searched", "replica_requests", "Requests that were answered"),
    counter("batches", "replica_batches", "Passes that requests shared"),
    counter("device_hits", "replica_hits", HITS, tier="device"),
    counter("dram_hits", "replica_hits", HITS, tier="dram"),
    counter("ssd_hits", "replica_hits", HITS, tier="ssd"),
    counter("peer_hits", "replica_hits", HITS, tier="peer"),
    counter("remote_hits", "replica_hits", HITS, tier="remote"),
    counter("segments_computed", "replica_computed_segments", "Segments that it had to compute"),
    counter("tokens_reused", "replica_prefill_tokens", "Tokens of prompts", source="reused"),
    counter("tokens_computed", "replica_prefill_tokens", "Tokens of prompts", source="computed"),
    counter("bytes_moved", "replica_kv_bytes", "KV that the store handed to the replica"),
)
DEVICE_TIER = (
    gauge("capacity_bytes", "device_tier_capacity_bytes", "What a replica may keep of segments"),
    gauge("used_bytes", "device_tier_used_bytes", "What it keeps"),
    gauge("num_segments", "device_tier_segments", "Segments that it keeps"),
    counter("hits", "device_tier_hits", "Segments that the store was not asked for"),
    counter("evictions", "device_tier_evictions", "Segments that had to make room"),
)
THREADS = (
    gauge("up", "replica_thread_up", "Whether a background thread of a replica runs"),
    counter("failures", "replica_thread_failures", "What failed in it and was skipped"),
)
COUNT = (gauge("replicas", "deployment_replicas", "Replicas of a deployment that answered"),)


def replica_families(states: Mapping[str, list[Status] | str]) -> list[Metric]:
    """Of each deployment's replicas, or why it has none."""
    found = {name: [] if isinstance(state, str) else state for name, state in states.items()}
    reports = [
        ((name, replica["replica"], replica["node"]), replica)
        for name, replicas in found.items()
        for replica in replicas
    ]
    tiers = [(labels, r["device_tier"]) for labels, r in reports if "device_tier" in r]
    threads = [
        ((*labels, name), thread)
        for labels, r in reports
        for name, thread in r.get("threads", {}).items()
    ]
    counts = [((name,), {"replicas": len(replicas)}) for name, replicas in found.items()]
    return [
        *tabulated(REPLICAS, LABELS, reports),
        *tabulated(DEVICE_TIER, LABELS, tiers),
        *tabulated(THREADS, (*LABELS, "thread"), threads),
        *tabulated(COUNT, ("deployment",), counts),
    ]
