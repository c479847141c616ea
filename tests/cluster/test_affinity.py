"""Two replicas of reranker and generator behind the real router: each has its own part, and stands
in for the other when that one is gone."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.cluster.running import Running, serving

pytestmark = [pytest.mark.ray, pytest.mark.slow]
TWO = {"num_replicas": 2}
TEXTS = [f"the sky of day {n} is blue" for n in range(30)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("affinity")
    with serving(folder, reranker=TWO, generator=TWO) as service:
        yield service


@pytest.fixture(scope="module")
def http(running: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, timeout=60) as client:
        client.post("/v1/rerank", json={"query": "first", "documents": ["x"]}).raise_for_status()
        yield client


def rerank(http: httpx.Client, texts: list[str]) -> dict[str, Any]:
    response = http.post("/v1/rerank", json={"query": "sky of day 7", "documents": texts})
    response.raise_for_status()
    data: dict[str, Any] = response.json()
    return data


def test_a_passage_is_computed_by_one_replica_once(http: httpx.Client) -> None:
    first = rerank(http, TEXTS)
    assert first["hyperrag"]["cache"]["computed"] == len(TEXTS)
    assert first["results"][0]["index"] == 7, "merged in the order of the texts"
    for texts in (TEXTS, TEXTS[::-1], TEXTS[5:9], TEXTS[::3]):
        cache = rerank(http, texts)["hyperrag"]["cache"]
        assert (cache["dram_hits"], cache["computed"]) == (len(texts), 0)


def test_both_replicas_have_work(http: httpx.Client) -> None:
    rerank(http, TEXTS)
    replicas = http.get("/v1/status").json()["deployments"]["reranker"]["replicas"]
    assert len(replicas) == 2 and all(replica["texts"] > 5 for replica in replicas)
    assert sum(replica["texts"] for replica in replicas) == len(TEXTS) + 1


def test_a_prompt_goes_where_its_first_passage_was_answered_from(http: httpx.Client) -> None:
    documents = [{"id": str(n), "text": text} for n, text in enumerate(TEXTS)]
    http.post("/v1/documents", json={"documents": documents}).raise_for_status()
    asked = {"question": "is the sky of day 7 blue", "top_k": 1}
    counts = []
    for _ in range(2):
        for _ in range(4):
            http.post("/v1/rag/query", json=asked).raise_for_status()
        replicas = http.get("/v1/status").json()["deployments"]["generator"]["replicas"]
        counts.append(sorted(replica["requests"] for replica in replicas))
    assert len(counts[0]) == 2 and counts[1][0] == counts[0][0], "one of them alone was asked"
    assert counts[1][1] - counts[0][1] == 4


def test_a_killed_replica_is_stood_in_for(http: httpx.Client) -> None:
    rerank(http, TEXTS)
    replicas = http.get("/v1/status").json()["deployments"]["reranker"]["replicas"]
    os.kill(replicas[0]["pid"], signal.SIGKILL)
    give_up = time.monotonic() + 60
    for _ in range(5):
        assert len(rerank(http, TEXTS)["results"]) == len(TEXTS)
    while rerank(http, TEXTS)["hyperrag"]["cache"]["computed"]:
        assert time.monotonic() < give_up, "settled on the replicas that there are"
