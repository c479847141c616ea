"""Nodes that come back with what was removed meanwhile, and a directory that was away itself."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any

import pytest
import ray

from actors.cluster_store import ClusterStoreClient
from actors.node_removals import SILENT_S
from kvstore.config import StoreConfig
from kvstore.errors import KVStoreError
from kvstore.types import Path
from tests.cluster.nodes import SOON, Engine, Nodes, eventually, nodes
from tests.kvstore.segments import TRUNK, chain_of, passage, small_config

pytestmark = [pytest.mark.ray, pytest.mark.slow]
PATHS = [chain_of(TRUNK, passage(n)) for n in range(1, 41)]


class Looking(Engine):
    """An engine that does not wait for anything before it asks its store."""

    def __init__(self, config: StoreConfig) -> None:
        self._client = ClusterStoreClient(config)

    def finds(self, *paths: Path) -> list[bool] | None:
        """Which of them its store has whole; None where it serves nothing."""
        try:
            acquired = self._client.acquire(paths, 2.0, claim=False)
        except KVStoreError:
            return None
        self._client.release(acquired.lease_id)
        return [path[-1].key in acquired.hits for path in paths]


@pytest.fixture
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    folder = tmp_path_factory.mktemp("away")
    config = small_config(folder, ssd_dir=str(folder / "ssd-{node}"), copies_share=0.001)
    with nodes(config, "b", "c", ray_config=SOON) as cluster:
        yield cluster


def process(actor: Any) -> int:
    found: int = ray.get(actor.process_id.remote(), timeout=20)
    return found


def store_at_c(three: Nodes) -> tuple[Path, Path]:
    """Two paths that only that node has, on its disk."""
    first, second = three.owned_by("c", PATHS)[:2]
    ray.get(three.engine("c").use.remote(first, second), timeout=60)
    assert ray.get(three.shard("c").flush.remote(10.0), timeout=20)
    folder = FilePath(three.config.ssd_dir.replace("{node}", "c"))
    eventually((folder / "REMOVALS").exists)
    return first, second


def test_a_node_that_was_away_while_all_others_restart_never_serves_what_was_removed(
    three: Nodes,
) -> None:
    removed, other = store_at_c(three)
    three.kill("c")
    eventually(lambda: len(three.membership().members) == 2, 60)
    engine = three.engine("a")
    ray.get(engine.call.remote("remove_tags", [removed[-1].tag]), timeout=60)
    directory, shards = process(three.directory), [process(three.shard(name)) for name in "ab"]
    os.kill(directory, signal.SIGSTOP)
    three.add("c")
    looking, seen = three.engine("c", Looking), []
    for _ in range(30):
        seen.append(ray.get(looking.finds.remote(removed, other), timeout=60))
        time.sleep(0.1)
    assert set(map(str, seen)) == {"None"}, "nobody has told it yet"
    for pid in (*shards, directory):
        os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        found: list[bool] | None = ray.get(looking.finds.remote(removed, other), timeout=60)
        seen.append(found)
        return found == [False, True]

    eventually(is_back, 90)
    assert [True, True] not in seen and [True, False] not in seen


def test_nodes_that_were_all_silent_recover_with_their_directory(three: Nodes) -> None:
    removed, other = store_at_c(three)
    looking = three.engine("c", Looking)
    eventually(lambda: ray.get(looking.finds.remote(removed), timeout=60) == [True])
    directory = process(three.directory)
    os.kill(directory, signal.SIGSTOP)
    time.sleep(SILENT_S + 4.0)
    assert ray.get(looking.finds.remote(removed), timeout=60) == [True], "it serves without news"
    os.kill(directory, signal.SIGCONT)
    three.settled(3)
    eventually(lambda: ray.get(looking.finds.remote(removed), timeout=60) == [True])
    ray.get(three.engine("a").call.remote("remove_tags", [removed[-1].tag]), timeout=60)
    eventually(lambda: ray.get(looking.finds.remote(removed, other), timeout=60) == [False, True])
