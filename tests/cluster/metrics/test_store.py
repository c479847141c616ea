"""The counters of a real store as series, and those of a status with a node that is gone."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from actors.shard_report import ShardReport
from cluster.metrics.store import COUNTERS, NODES, TIERS, store_families
from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import StoreStats, ThreadStats, TierStats
from tests.cluster.metrics.series import Series, moved, series_of
from tests.kvstore.segments import TRUNK, chain_of, compute, passage, small_config

MEMBER = {"node_id": "1", "name": "here", "capacity_bytes": 9, "state": "up"}
REPORT = ShardReport(
    epoch=3,
    done_epoch=3,
    capacity_bytes=9,
    moved_bytes=64,
    moved_segments=2,
    guests=1,
    sent_bytes=96,
    received_bytes=32,
    waiting_segments=2,
    waiting_for={"there": 2},
    unplaced_segments=1,
    is_told=True,
    threads_gone=(),
)
WHOLE: dict[str, Any] = {"epoch": 3, "replication": 1, "moving": True, "changes": []}


def series(*nodes: dict[str, Any]) -> Series:
    return series_of(store_families({**WHOLE, "nodes": list(nodes)}))


def node(stats: StoreStats) -> dict[str, Any]:
    return {**MEMBER, **asdict(REPORT), "store": asdict(stats)}


def used(config: StoreConfig) -> tuple[StoreStats, StoreStats]:
    """Before and after two segments are computed, written and found again."""
    store = KVStore(config, "here")
    client = LocalStoreClient(store, config.dram_dir)
    try:
        before = client.stats()
        path = chain_of(TRUNK, passage(1))
        for _ in range(2):
            client.release(compute(client, path).lease_id)
        assert store.flush(10)
        return before, client.stats()
    finally:
        client.close()
        store.close()


def test_a_real_store_moves_its_series(tmp_path: Path) -> None:
    before, after = used(small_config(tmp_path, ssd_dir=str(tmp_path / "ssd")))
    changes = moved(series(node(before)), series(node(after)))
    assert changes['hyperrag_tier_segments{node="here",tier="dram"}'] == 2
    assert changes['hyperrag_tier_hits_total{node="here",tier="dram"}'] == 2
    assert changes['hyperrag_tier_used_bytes{node="here",tier="dram"}'] > 0
    assert changes['hyperrag_tier_written_bytes_total{node="here",tier="ssd"}'] > 0
    assert changes['hyperrag_store_misses_total{node="here"}'] == 2
    assert changes['hyperrag_store_commits_total{node="here"}'] == 2
    assert not any('tier="remote"' in name for name in series(node(after))), "not configured"


def test_every_figure_of_a_report_is_exported_under_its_own_name() -> None:
    """Each field gets a number that only it has: no two are swapped, none is left out."""
    tier = TierStats(*range(1, 1 + len(fields(TierStats))))
    numbers = {f.name: 100 + i for i, f in enumerate(fields(StoreStats)) if f.type is int}
    threads = {"worker": ThreadStats(up=True, failures=7), "lost": ThreadStats(False, 0)}
    stats = StoreStats(dram=tier, ssd=tier, remote=tier, threads=threads, **numbers)
    found = series(node(stats))
    for figure in TIERS:
        name = figure.name + ("_total" if figure.kind == "counter" else "")
        assert found[f'{name}{{node="here",tier="ssd"}}'] == asdict(tier)[figure.field]
    assert {figure.field for figure in TIERS} == {
        f.name for f in fields(TierStats) if f.type is int
    }
    for figure in (*COUNTERS, *NODES):
        name = figure.name + ("_total" if figure.kind == "counter" else "")
        labels = "".join(f',{key}="{value}"' for key, value in figure.fixed)
        expected = {**asdict(REPORT), **numbers}[figure.field]
        assert found[f'{name}{{node="here"{labels}}}'] == expected
    assert {figure.field for figure in COUNTERS} == set(numbers)
    assert found['hyperrag_thread_up{node="here",thread="worker"}'] == 1
    assert found['hyperrag_thread_failures_total{node="here",thread="worker"}'] == 7
    assert found['hyperrag_thread_up{node="here",thread="lost"}'] == 0


def test_the_membership(tmp_path: Path) -> None:
    stats = used(small_config(tmp_path))[1]
    found = series(node(stats), {**node(stats), "name": "there", "state": "draining"})
    assert found["hyperrag_membership_epoch"] == 3
    assert found["hyperrag_membership_moving"] == 1
    assert found["hyperrag_membership_replication"] == 1
    assert found['hyperrag_members{state="up"}'] == 1
    assert found['hyperrag_members{state="draining"}'] == 1


def test_a_node_that_does_not_answer_has_no_tiers_and_is_said_to_be_away() -> None:
    found = series({**MEMBER, "store": "UnavailableError: cannot be reached"})
    assert found['hyperrag_node_up{node="here"}'] == 0
    assert not any(name.startswith(("hyperrag_tier", "hyperrag_store")) for name in found)
