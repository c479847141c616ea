"""The policy inside Serve's controller: a shift of the load moves a GPU, and nobody notices."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.cluster.autoscaling.paced_app import APP
from tests.cluster.autoscaling.traffic import Mix, ask, ingest, watching
from tests.cluster.running import Running, serving
from tests.infra.promql import AUTOSCALER, needs_prometheus, panels, prometheus

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


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("autoscaler")
    with serving(folder, app=APP, reranker={"num_replicas": 2}, autoscaler=SETTINGS) as running:
        yield running


def test_a_gpu_moves_to_where_the_work_is_and_no_request_fails(service: Running) -> None:
    run_dir = service.folder / "data" / "run"
    with watching(run_dir) as watch:
        ingest(service.url)
        started = time.monotonic()
        answers = asyncio.run(ask(service.url, Mix(0.2, 0.8, 2.0), 20.0, seed=1))
        assert len(answers) > 20 and {answer.status for answer in answers} == {200}
        assert watch.since(started, 1, 2) is not None, watch.samples[-1]
        assert max(rerank + generate for _, rerank, generate in watch.samples) == 3
        assert min(min(rerank, generate) for _, rerank, generate in watch.samples) >= 1
        stopped = [path.name for path in run_dir.glob("*.rerank.stopped")]
        assert len(stopped) == 1, "it was asked to hand over"
        deployments = httpx.get(f"{service.url}/v1/status").json()["deployments"]
        assert [len(deployments[n]["replicas"]) for n in ("reranker", "generator")] == [1, 2]


def exporting_port(service: Running) -> int:
    """Of the agent, which is not told one and picks what is free."""
    started = psutil.Process(service.process.pid).children(recursive=True)
    (agent,) = (p for p in started if "DashboardAgent" in " ".join(p.cmdline()))
    listening = [c.laddr.port for c in agent.net_connections("tcp") if c.status == "LISTEN"]
    for port in listening:
        with suppress(httpx.HTTPError):
            if "ray_" in httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text:
                return int(port)
    raise AssertionError(f"none of {listening} has metrics")


@needs_prometheus
def test_every_panel_has_data(service: Running, tmp_path: Path) -> None:
    """From Ray's agent of the node, to which processes report every ten seconds."""
    queries = [q for panel in panels() if panel.dashboard == AUTOSCALER for q in panel.queries]
    with prometheus(tmp_path, f"127.0.0.1:{exporting_port(service)}", "1s") as prom:
        empty = [query for query in queries if not prom.eventually(query, 40.0)]
    assert not empty, "\n".join(empty)
    assert len(queries) == 6
