"""The application on a Ray cluster that somebody else started: deployed, updated, taken down."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util import list_named_actors

from actors.shard_names import DIRECTORY
from cluster import deploy as deploying
from cluster.config import HyperRagConfig, load
from cluster.errors import DeployError, NoClusterError
from cluster.running import attached, service_urls, undeploy
from kvstore.arena_file import PREFIX
from tests.cluster.running import ROOT, free_port

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))  # nodes import the small parts
        patch.setenv("SERVE_SLOW_STARTUP_WARNING_S", "3")  # until Serve says what is missing
        # Ray forgets to close the socket with which it finds the usual port of dashboards taken.
        head = {"num_cpus": 4, "include_dashboard": False, "dashboard_port": free_port()}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        yield str(cluster.address)
        cluster.shutdown()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> HyperRagConfig:
    folder = tmp_path_factory.mktemp("deploy")
    (folder / "dram").mkdir()
    own = {
        "data_dir": str(folder / "data"),
        "ingress.host": "0.0.0.0",
        "ingress.port": free_port(),
        "ingress.insecure": True,
        "store.dram_dir": str(folder / "dram"),
        "store.dram_bytes": 2**26,
        "store.ssd_bytes": 2**26,
    }
    return load(overrides=own, environ={}).resolved({})


def deploy(config: HyperRagConfig, deadline_s: float = 240.0) -> list[str]:
    """What it said on the way."""
    said: list[str] = []
    deploying.deploy(config, said.append, deadline_s, "tests.cluster.small_app:build")
    return said


def changed(config: HyperRagConfig, key: str, value: object) -> HyperRagConfig:
    tree = config.model_dump(mode="json")
    section, name = key.split(".")
    return HyperRagConfig.parse({**tree, section: {**tree[section], name: value}})


def arenas(config: HyperRagConfig) -> list[Path]:
    return list(Path(config.store.dram_dir).glob(PREFIX + "*"))


def test_it_answers_where_it_says(address: str, config: HyperRagConfig) -> None:
    with attached(address):
        assert "Reranker: healthy" in deploy(config)
        (url,) = service_urls(config.ingress)
        assert "127.0.0.1" not in url, "a node's address, not the loopback of whoever asks"
        assert DIRECTORY in list_named_actors()
    body = {"documents": [{"id": "sky", "text": "the sky is blue"}]}
    assert httpx.post(f"{url}/v1/documents", json=body, timeout=60).json()["searchable"]
    answer = httpx.post(f"{url}/v1/rag/query", json={"question": "is it blue"}, timeout=60).json()
    assert answer["answer"].startswith("the sky is blue")


def test_a_second_time_it_is_updated(address: str, config: HyperRagConfig) -> None:
    with attached(address):
        deploy(changed(config, "ingress.generator_name", "other"))
        (url,) = service_urls(config.ingress)
    models = httpx.get(f"{url}/v1/models", timeout=60).json()["data"]
    assert "other" in {model["id"] for model in models}


def test_what_a_running_one_cannot_change_is_refused(address: str, config: HyperRagConfig) -> None:
    with attached(address):
        with pytest.raises(DeployError, match=f"listens on 0.0.0.0:{config.ingress.port}.*undepl"):
            deploy(changed(config, "ingress.port", free_port()))
        with pytest.raises(DeployError, match="store.*dram_bytes = 67108864.*undeploy"):
            deploy(changed(config, "store.dram_bytes", 2**25))


def test_what_no_node_has_room_for_is_named(address: str, config: HyperRagConfig) -> None:
    with attached(address), pytest.raises(DeployError, match=r"Reranker \(.*\"CPU\": 50"):
        deploy(changed(config, "placement.replica_cpus", 50.0), deadline_s=30.0)


def test_taken_down_it_leaves_ray_and_nothing_else(address: str, config: HyperRagConfig) -> None:
    with attached(address):
        assert arenas(config)
        undeploy()
        assert list_named_actors(all_namespaces=True) == []
        assert not arenas(config), "shards gave their memory back"
        assert ray.cluster_resources()["CPU"] == 4
        deploy(config)
        undeploy()


def test_where_no_cluster_is_that_is_said_at_once() -> None:
    with pytest.raises(NoClusterError, match="refused"), attached(f"127.0.0.1:{free_port()}"):
        pass
