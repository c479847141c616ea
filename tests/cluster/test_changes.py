"""Nodes that come, drain and die while others go on: what moves, what is lost, what is not."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

import pytest
import ray

from actors.peers import PAUSE_S
from kvstore.config import StoreConfig
from kvstore.types import Path
from tests.cluster.nodes import LABEL, SOON, Nodes, eventually, nodes
from tests.kvstore.segments import TRUNK, chain_of, passage, small_config

pytestmark = [pytest.mark.ray, pytest.mark.slow]
PATHS = [chain_of(TRUNK, passage(n)) for n in range(1, 61)]
RATE = 32 * 1024
LEAVES = [path[-1].key for path in PATHS]


def config_in(folder: FilePath, **changes: Any) -> StoreConfig:
    return small_config(folder, ssd_dir=str(folder / "ssd-{node}"), copies_share=0.05, **changes)


def on_disk(cluster: Nodes, *names: str) -> int:
    """Segments in their slow tiers."""
    stats = ray.get([cluster.shard(name).stats.remote() for name in names], timeout=20)
    return sum(s.ssd.num_segments for s in stats)


def stored_in(cluster: Nodes, name: str) -> set[bytes]:
    """What a shard has, copies among it, by digest."""
    assert ray.get(cluster.shard(name).flush.remote(10.0), timeout=20)
    holdings = ray.get(cluster.shard(name).holdings.remote(), timeout=20)
    return {spec.key.digest for spec in holdings}


def fill(cluster: Nodes, name: str) -> None:
    engine = cluster.engine(name)
    for first in range(0, len(PATHS), 12):
        ray.get(engine.use.remote(*PATHS[first : first + 12]), timeout=60)
    assert ray.get(engine.call.remote("flush", 20.0), timeout=30)


def serves(cluster: Nodes, name: str) -> bool:
    """Whether its shard answers, and has what its disk had."""
    try:
        return bool(ray.get(cluster.shard(name).flush.remote(1.0), timeout=5))
    except ray.exceptions.RayError:
        return False


def guests(cluster: Nodes, name: str, reader: Any) -> int:
    """Leases of others on its shard, after the reader has asked for something again."""
    ray.get(reader.use.remote(*PATHS[:12]), timeout=60)
    return int(ray.get(cluster.shard(name).report.remote(), timeout=20).guests)


def names(cluster: Nodes) -> list[str]:
    return sorted(member.name for member in cluster.membership().members)


def owners(cluster: Nodes, path: Path) -> tuple[str, ...]:
    return cluster.membership().owners(path[-1].key.placement)


@pytest.fixture
def two(tmp_path: FilePath) -> Iterator[Nodes]:
    with nodes(config_in(tmp_path, rebalance_bytes_per_s=RATE), "b") as cluster:
        yield cluster


def test_a_node_that_joins_gets_its_share_and_one_that_drains_gives_it_back(two: Nodes) -> None:
    fill(two, "a")
    reader, reading, failed = two.engine("b"), threading.Event(), list[str]()

    def read() -> None:
        while not reading.is_set():
            sources = ray.get(reader.use.remote(*PATHS[:20]), timeout=60)
            failed.extend(s for s in sources.values() if s == "computed")

    thread = threading.Thread(target=read)
    thread.start()
    two.add("c")
    two.settled(3)
    reading.set()
    thread.join(60)
    assert not failed, "what is being moved is found where it was"
    own = {p[-1].key.digest for p in two.owned_by("c", PATHS)}
    assert 0.1 < len(own) / len(PATHS) < 0.6
    assert own <= stored_in(two, "c")
    eventually(lambda: on_disk(two, "a", "b", "c") == len(PATHS) + 3, 30)
    assert on_disk(two, "c") == len(own) + 1, "the prompt prefix is everybody's"
    ray.get(two.directory.drain.remote(two.ids["c"]), timeout=20)
    eventually(lambda: not two.owned_by("c", PATHS))
    two.settled(3)
    left = stored_in(two, "a") | stored_in(two, "b")
    assert {key.digest for key in LEAVES} <= left and on_disk(two, "a", "b") == len(PATHS) + 2
    status = ray.get(two.directory.status.remote(), timeout=20)
    reasons = [change["reason"] for change in status["changes"]]
    assert "c joined" in reasons and "c is draining" in reasons
    at = {change["reason"]: change["at"] for change in status["changes"]}
    (drained,) = (node for node in status["nodes"] if node["state"] == "draining")
    seconds = at["everything has moved"] - at["c is draining"]
    assert seconds > 0.9 * drained["moved_bytes"] / RATE, "no faster than it may"
    assert all(node["sent_bytes"] >= node["moved_bytes"] for node in status["nodes"])
    assert any(node["moved_bytes"] for node in status["nodes"])


def test_a_killed_shard_and_a_killed_directory_cost_time_alone(two: Nodes) -> None:
    fill(two, "a")
    reader = two.engine("a")
    before = two.membership()
    for name in "ab":
        assert ray.get(two.shard(name).flush.remote(10.0), timeout=20)
    os.kill(ray.get(two.shard("b").process_id.remote(), timeout=20), signal.SIGKILL)
    os.kill(ray.get(two.directory.process_id.remote(), timeout=20), signal.SIGKILL)
    sources = ray.get(reader.use.remote(*PATHS[:12]), timeout=60)
    assert set(sources) >= {key.digest for key in LEAVES[:12]}, "answered, meanwhile"
    eventually(lambda: two.membership().epoch >= before.epoch, 60)
    assert two.membership().node_ids == before.node_ids
    status = ray.get(two.directory.status.remote(), timeout=20)
    assert not status["changes"], "who restarts as well is a member still"
    own = [p for p in two.owned_by("b", PATHS) if p not in PATHS[:12]][:4]
    eventually(lambda: serves(two, "b"), 60)
    time.sleep(PAUSE_S)  # it was left alone meanwhile
    found = ray.get(reader.use.remote(*own), timeout=60)
    assert {found[path[-1].key.digest] for path in own} == {"peer"}


def test_with_replication_the_loss_of_a_node_loses_nothing(tmp_path: FilePath) -> None:
    config = config_in(tmp_path, replication=2, remote_timeout_s=20.0)
    with nodes(config, "b", "c", ray_config=SOON) as cluster:
        fill(cluster, "a")
        hang, reader = ray.get(cluster.shard("b").process_id.remote()), cluster.engine("a")
        both = [
            p for p in cluster.owned_by("b", PATHS) if cluster.ids["a"] not in owners(cluster, p)
        ]
        os.kill(hang, signal.SIGSTOP)
        started = time.monotonic()
        sources = ray.get(reader.use.remote(*both[:8]), timeout=60)
        found = {sources[path[-1].key.digest] for path in both[:8]}
        assert "peer" in found and "computed" not in found
        assert time.monotonic() - started < 10, "the other was asked, not waited for"
        os.kill(hang, signal.SIGCONT)
        eventually(lambda: not guests(cluster, "b", reader), 20)
        cluster.kill("c")
        reader = cluster.engine("a")
        sources = ray.get(reader.use.remote(*PATHS[:24]), timeout=60)
        assert "computed" not in {sources[key.digest] for key in LEAVES[:24]}
        cluster.settled(2)
        every: set[bytes] = {key.digest for key in LEAVES}
        eventually(lambda: every <= stored_in(cluster, "a") and every <= stored_in(cluster, "b"))
        replaced = cluster.ids["b"]
        cluster.kill("b")
        cluster.add("b")  # before the other is known to be lost
        eventually(lambda: replaced not in cluster.membership().node_ids, 60)
        eventually(lambda: names(cluster) == ["a", "b"], 60)
        assert on_disk(cluster, "b") > 0, "what the former one had written"


def test_only_nodes_with_the_labels_keep_a_shard(tmp_path: FilePath) -> None:
    """Such as those with GPUs, and not the head of a cluster, which runs no engine."""
    cluster = Nodes(config_in(tmp_path, node_labels={LABEL: "b"}))
    try:
        cluster.add("b")
        assert [member.name for member in cluster.settled(1).members] == ["b"]
        cluster.shard("b")
        with pytest.raises(ValueError, match="Failed to look up actor"):
            cluster.shard("a")
        engine, other = cluster.engine("a"), cluster.engine("b")
        ray.get(engine.use.remote(*PATHS[:8]), timeout=60)
        cluster.settled(2)
        assert names(cluster) == ["a", "b"], "where an engine runs there is a shard"
        tags = [path[-1].tag for path in PATHS[:8]]
        ray.get(other.call.remote("remove_tags", tags), timeout=60)
        assert not ray.get(cluster.shard("a").locate.remote(LEAVES[:8]), timeout=20)
    finally:
        cluster.close()
