"""What replicas report, as series by deployment, replica and node."""

from dataclasses import asdict
from typing import Any

from actors.counters import ReuseCounters
from actors.messages import CacheReport
from cluster.metrics.replicas import replica_families
from cluster.services import Status
from kvstore.types import ThreadStats, TierStats
from tests.cluster.metrics.series import Series, moved, series_of

LABELS = 'deployment="reranker",node="here",replica="r1"'
REPORT = CacheReport(
    device_hits=1,
    dram_hits=2,
    ssd_hits=3,
    peer_hits=4,
    remote_hits=5,
    computed=6,
    tokens_reused=7,
    tokens_computed=8,
    bytes_moved=9,
)


def series(**states: list[Status] | str) -> Series:
    return series_of(replica_families(states))


def reranker(counters: ReuseCounters, **more: Any) -> Status:
    return {"replica": "r1", "node": "here", **counters.status(), **more}


def test_what_requests_found_by_tier() -> None:
    counters = ReuseCounters()
    before = series(reranker=[reranker(counters)])
    counters.count(REPORT)
    assert moved(before, series(reranker=[reranker(counters)])) == {
        f"hyperrag_replica_requests_total{{{LABELS}}}": 1,
        f'hyperrag_replica_hits_total{{{LABELS},tier="device"}}': 1,
        f'hyperrag_replica_hits_total{{{LABELS},tier="dram"}}': 2,
        f'hyperrag_replica_hits_total{{{LABELS},tier="ssd"}}': 3,
        f'hyperrag_replica_hits_total{{{LABELS},tier="peer"}}': 4,
        f'hyperrag_replica_hits_total{{{LABELS},tier="remote"}}': 5,
        f"hyperrag_replica_computed_segments_total{{{LABELS}}}": 6,
        f'hyperrag_replica_prefill_tokens_total{{{LABELS},source="reused"}}': 7,
        f'hyperrag_replica_prefill_tokens_total{{{LABELS},source="computed"}}': 8,
        f"hyperrag_replica_kv_bytes_total{{{LABELS}}}": 9,
    }


def test_queues_batches_and_the_device_tier() -> None:
    tier = asdict(TierStats(100, 60, 3, 5, 2))
    threads = {"reranker-engine": asdict(ThreadStats(up=True, failures=3))}
    more = {"device_tier": tier, "threads": threads}
    busy = reranker(ReuseCounters(), waiting=4, active=2, batches=9, **more)
    found = series(
        reranker=[busy], corpus=[{"replica": "c", "node": "there", "changes_waiting": 6}]
    )
    assert found[f"hyperrag_replica_queue_length{{{LABELS}}}"] == 4
    assert found[f'hyperrag_replica_thread_up{{{LABELS},thread="reranker-engine"}}'] == 1
    name = f'hyperrag_replica_thread_failures_total{{{LABELS},thread="reranker-engine"}}'
    assert found[name] == 3
    assert found[f"hyperrag_replica_active_requests{{{LABELS}}}"] == 2
    assert found[f"hyperrag_replica_batches_total{{{LABELS}}}"] == 9
    assert found[f"hyperrag_device_tier_capacity_bytes{{{LABELS}}}"] == 100
    assert found[f"hyperrag_device_tier_used_bytes{{{LABELS}}}"] == 60
    assert found[f"hyperrag_device_tier_segments{{{LABELS}}}"] == 3
    assert found[f"hyperrag_device_tier_hits_total{{{LABELS}}}"] == 5
    assert found[f"hyperrag_device_tier_evictions_total{{{LABELS}}}"] == 2
    corpus = 'deployment="corpus",node="there",replica="c"'
    assert found[f"hyperrag_replica_queue_length{{{corpus}}}"] == 6


def test_a_deployment_that_does_not_answer_has_no_replicas() -> None:
    one = {"replica": "r1", "node": "there", "searched": 3, "waiting": 0}
    found = series(retriever=[one, {**one, "replica": "r2"}], generator="no running replica")
    assert found['hyperrag_deployment_replicas{deployment="retriever"}'] == 2
    assert found['hyperrag_deployment_replicas{deployment="generator"}'] == 0
    searched = 'hyperrag_replica_requests_total{deployment="retriever",node="there",replica="r2"}'
    assert found[searched] == 3
    assert not any('deployment="generator",' in name for name in found)
