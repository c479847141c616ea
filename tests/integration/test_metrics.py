"""A real Prometheus scrapes the real service: every panel of the dashboards has data under load."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from hyperrag import Client, Document
from tests.infra.promql import AUTOSCALER, Prometheus, alerts, needs_prometheus, panels, prometheus
from tests.integration.conftest import COLLECTION, FACTS, QUESTIONS
from tests.integration.service import Service

pytestmark = [pytest.mark.ray, needs_prometheus]
LOAD_S = 15.0


@pytest.fixture(scope="module")
def asked(
    service: Service, client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus that has watched the service under load, and still does."""
    folder = tmp_path_factory.mktemp("prometheus")
    client.ingest([Document(name, text) for name, text in FACTS.items()], COLLECTION)
    with (
        prometheus(folder, f"127.0.0.1:{service.port}", "1s") as started,
        load(service.url, COLLECTION),
    ):
        time.sleep(LOAD_S)
        yield started


@contextmanager
def load(url: str, collection: str) -> Iterator[None]:
    """Questions, one after another, whole and streamed."""
    stop = threading.Event()

    def ask() -> None:
        with Client(url, timeout_s=180) as client:
            while not stop.is_set():
                for question in QUESTIONS.values():
                    client.ask(question, collection=collection, max_tokens=8)
                    for _ in client.ask_stream(question, collection=collection, max_tokens=8):
                        pass

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_every_panel_has_data(asked: Prometheus) -> None:
    empty = [
        f"{panel.dashboard}: {panel.title}: {query}"
        for panel in panels()
        if panel.dashboard != AUTOSCALER
        for query in panel.queries
        if not asked.eventually(query)
    ]
    assert not empty, "\n".join(empty)


def test_what_is_drawn_is_what_happened(asked: Prometheus) -> None:
    (reused,) = asked.eventually(
        'sum(rate(hyperrag_replica_prefill_tokens_total{source="reused"}[20s]))'
        " / sum(rate(hyperrag_replica_prefill_tokens_total[20s]))",
    )
    assert reused > 0.5, "the same questions again and again"
    (rate,) = asked.eventually('sum(rate(hyperrag_requests_total{route="/v1/rag/query"}[20s]))')
    assert rate > 0
    mean = "sum(rate(hyperrag_stage_duration_seconds_sum[20s])) / sum(rate(%s[20s]))"
    name = "hyperrag_request_duration_seconds"
    (stages,) = asked.eventually(mean % f'{name}_count{{route="/v1/rag/query"}}')
    (whole,) = asked.eventually(
        f'sum(rate({name}_sum{{route="/v1/rag/query"}}[20s]))'
        f' / sum(rate({name}_count{{route="/v1/rag/query"}}[20s]))',
    )
    assert stages == pytest.approx(whole, rel=0.2), "stages follow one another"


def test_rules_are_evaluated_and_nothing_is_wrong(asked: Prometheus) -> None:
    (target,) = asked.targets()
    assert (target["health"], target["lastError"]) == ("up", "")
    rules = {rule["name"]: rule for rule in asked.rules()}
    assert rules.keys() == alerts().keys()
    for name, rule in rules.items():
        assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), name
        assert rule["state"] != "firing", name


def test_a_scrape_is_cheap_beside_its_interval(asked: Prometheus, http: httpx.Client) -> None:
    (seconds,) = asked.eventually("max(scrape_duration_seconds)")
    assert seconds < 5.0, "Prometheus gives up after ten"
    assert len(http.get("/metrics").text.splitlines()) < 2_000
