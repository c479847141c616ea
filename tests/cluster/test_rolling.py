"""Updates of a running service: every replica is replaced, or none, and nobody notices."""

from collections.abc import Iterator

import httpx
import pytest

from tests.cluster.running import Running, serving
from tests.cluster.traffic import DOCUMENT, KINDS, Traffic

pytestmark = pytest.mark.ray
RATE = 4.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("rolling")) as service:
        body = {"documents": [DOCUMENT]}
        httpx.post(f"{service.url}/v1/documents", json=body, timeout=60).raise_for_status()
        yield service


def tokenizer(running: Running) -> str:
    """Of the corpus writer: the reranker's model, as its configuration names it."""
    status = httpx.get(f"{running.url}/v1/status", timeout=60).json()
    [replica] = status["deployments"]["corpus"]["replicas"]
    return str(replica["tokenizer"])


def test_an_update_replaces_every_replica_and_fails_no_request(running: Running) -> None:
    before = running.replicas()
    assert {name for name, _ in before} == {
        "Ingress", "Retriever", "CorpusService", "Reranker", "Generator",
    }  # fmt: skip
    with Traffic(running.url, RATE) as traffic:
        assert running.update(models={"reranker": {"source": "newer"}}) == "updated"
    assert traffic.errors == []
    assert {outcome.kind for outcome in traffic.outcomes} == {*KINDS}
    assert tokenizer(running) == "newer"
    assert not before & running.replicas()


def test_one_that_cannot_start_says_why_and_leaves_what_ran_before(running: Running) -> None:
    with Traffic(running.url, RATE) as traffic:
        said = running.update(models={"reranker": {"source": "missing"}})
    assert said.startswith("not updated: Reranker: ")
    assert "there is no such model" in said and "what ran before runs again" in said
    assert traffic.errors == []
    assert tokenizer(running) == "newer"
    assert httpx.get(f"{running.url}/readyz", timeout=60).status_code == 200
