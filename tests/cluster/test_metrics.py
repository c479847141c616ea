"""One scrape of a running service: every ingress replica, deployment and node is in it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.cluster.metrics.series import Series, parsed
from tests.cluster.nodes import eventually
from tests.cluster.running import Running, serving

pytestmark = pytest.mark.ray
NUM_REQUESTS = 40


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    ingress = {"num_replicas": 2}
    with serving(tmp_path_factory.mktemp("metrics"), ingress=ingress) as service:
        yield service


def ask(url: str) -> Series:
    return parsed(httpx.get(f"{url}/metrics", timeout=60).raise_for_status().text)


def test_a_scrape_of_one_ingress_replica_has_what_all_have_counted(running: Running) -> None:
    def probe(_: int) -> int:
        return httpx.get(f"{running.url}/v1/models", timeout=60).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(probe, range(NUM_REQUESTS))) == {200}
    found = ask(running.url)
    labels = 'hyperrag_requests_total{method="GET",replica='
    served = [
        value for name, value in found.items() if name.startswith(labels) and "/v1/models" in name
    ]
    assert len(served) == 2, "Serve spreads requests over both"
    assert sum(served) == NUM_REQUESTS
    assert {name: value for name, value in found.items() if "part_up" in name} == {
        f'hyperrag_part_up{{part="{part}"}}': 1
        for part in ("corpus", "generator", "ingress", "reranker", "retriever", "store")
    }


def test_nodes_and_replicas_are_named_the_same_in_every_scrape(running: Running) -> None:
    eventually(lambda: ask(running.url).get('hyperrag_members{state="up"}') == 1)
    first, second = ask(running.url), ask(running.url)
    assert first.keys() - second.keys() == set()
    assert first["hyperrag_membership_epoch"] >= 1
    tiers = [name for name in first if name.startswith("hyperrag_tier_capacity_bytes")]
    assert len(tiers) == 2, "DRAM and SSD of the one node"
    (node,) = {name.split('node="')[1].split('"')[0] for name in tiers}
    queue = [name for name in first if name.startswith("hyperrag_replica_queue_length")]
    assert all(f'node="{node}"' in name for name in queue), queue
