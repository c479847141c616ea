"""The policy inside Serve's controller: a shift of the load moves a GPU, and nobody notices."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from tests.cluster.autoscaling.paced_app import APP
from tests.cluster.autoscaling.traffic import Mix, ask, ingest, watching
from tests.cluster.running import serving

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SETTINGS = {
    "enabled": True,
    "gpus": 3,
    "tick_s": 1.0,
    "window_s": 4.0,
    "evidence_s": 1.0,
    "cooldown_s": 10.0,
    "switch_s": 4.0,
    "refill_s": 0.0,
    "drain_s": 20.0,
}


def test_a_gpu_moves_to_where_the_work_is_and_no_request_fails(tmp_path: Path) -> None:
    with (
        serving(tmp_path, app=APP, reranker={"num_replicas": 2}, autoscaler=SETTINGS) as service,
        watching(tmp_path / "data" / "run") as watch,
    ):
        ingest(service.url)
        started = time.monotonic()
        answers = asyncio.run(ask(service.url, Mix(0.2, 0.8, 2.0), 20.0, seed=1))
        assert len(answers) > 20 and {answer.status for answer in answers} == {200}
        assert watch.since(started, 1, 2) is not None, watch.samples[-1]
        assert max(rerank + generate for _, rerank, generate in watch.samples) == 3
        assert min(min(rerank, generate) for _, rerank, generate in watch.samples) >= 1
        stopped = [path.name for path in (tmp_path / "data" / "run").glob("*.rerank.stopped")]
        assert len(stopped) == 1, "it was asked to hand over"
        deployments = httpx.get(f"{service.url}/v1/status").json()["deployments"]
        assert [len(deployments[n]["replicas"]) for n in ("reranker", "generator")] == [1, 2]
