"""What an overlay's pods offer is what its configuration needs."""

from typing import Any

import pytest

from cluster.config import HyperRagConfig
from tests.infra.manifests import (
    Object,
    Pod,
    groups,
    of_kind,
    overlay,
    pods,
    quantity,
    ray_cluster,
)
from tests.infra.serve_config import OVERLAYS, serve_config

PROCESSES_BYTES = 4 * 2**30
"""At least so much memory beside what lies in /dev/shm."""


@pytest.fixture(params=OVERLAYS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def objects(name: str) -> tuple[Object, ...]:
    return overlay(name)


@pytest.fixture
def config(name: str) -> HyperRagConfig:
    [application] = serve_config(name)["applications"]
    return HyperRagConfig.parse(application["args"])


def pod(objects: tuple[Object, ...], name: str) -> Pod:
    return next(pod for pod in pods(objects) if pod.name == name)


def mounts(each: Pod) -> dict[str, Any]:
    """Volumes by the folder where the pod sees them."""
    return {m["mountPath"]: each.volumes[m["name"]] for m in each.container["volumeMounts"]}


def shared_memory(each: Pod) -> float:
    return quantity(mounts(each)["/dev/shm"]["emptyDir"]["sizeLimit"])


def test_the_arena_and_rays_objects_fit_into_memory(
    objects: tuple[Object, ...], config: HyperRagConfig
) -> None:
    ray_bytes = {
        name: int(group["rayStartParams"]["object-store-memory"])
        for name, group in [
            ("head", ray_cluster(objects)["headGroupSpec"]),
            *groups(objects).items(),
        ]
    }
    for name, of_ray in ray_bytes.items():
        each = pod(objects, name)
        arena = config.store.dram_bytes if name == "gpu" else 0
        assert mounts(each)["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        assert shared_memory(each) >= arena + of_ray
        memory = quantity(each.container["resources"]["limits"]["memory"])
        assert memory >= shared_memory(each) + PROCESSES_BYTES, "memory volumes count as memory"
    assert config.store.dram_dir == "/dev/shm"


def test_segments_outlive_the_ray_cluster_and_fit(
    objects: tuple[Object, ...], config: HyperRagConfig
) -> None:
    mount, _, name = config.store.ssd_dir.rpartition("/")
    assert name, "a volume's own root is not the user's"
    volume = mounts(pod(objects, "gpu"))[mount]
    if groups(objects)["gpu"]["maxReplicas"] > 1:
        assert volume["hostPath"]["type"] == "Directory", "one claim is not several disks"
        return
    claim = of_kind(objects, "PersistentVolumeClaim")[volume["persistentVolumeClaim"]["claimName"]]
    assert "ownerReferences" not in claim["metadata"]
    size = quantity(claim["spec"]["resources"]["requests"]["storage"])
    assert size * config.store.ssd_free_share >= config.store.ssd_bytes


def test_the_corpus_is_where_it_is_read_and_written(
    objects: tuple[Object, ...], config: HyperRagConfig
) -> None:
    cpu = pod(objects, "cpu")
    volume = mounts(cpu)[config.retrieval.corpus_uri]
    claim = of_kind(objects, "PersistentVolumeClaim")[volume["persistentVolumeClaim"]["claimName"]]
    several = groups(objects)["cpu"]["maxReplicas"] > 1
    assert claim["spec"]["accessModes"] == ["ReadWriteMany" if several else "ReadWriteOnce"]
    assert config.retrieval.corpus_uri not in mounts(pod(objects, "gpu"))
    [keys] = [path for path in mounts(cpu) if config.ingress.api_keys_file.startswith(path + "/")]
    assert mounts(cpu)[keys]["secret"]["secretName"] == "hyperrag-api-keys"


def test_every_folder_that_is_written_can_be(
    objects: tuple[Object, ...], config: HyperRagConfig
) -> None:
    for name in ("cpu", "gpu"):
        found = mounts(pod(objects, name))
        for folder in (config.data_dir, config.model_cache_dir, config.run_dir, "/tmp/ray"):
            [volume] = [v for path, v in found.items() if f"{folder}/".startswith(path + "/")]
            assert "emptyDir" in volume, f"{folder} of {name}"


def test_labels_bring_each_part_to_its_pods(
    objects: tuple[Object, ...], config: HyperRagConfig
) -> None:
    labels = {name: group["labels"] for name, group in groups(objects).items()}
    assert labels == {"cpu": config.placement.cpu_labels, "gpu": config.store.node_labels}
    assert ray_cluster(objects)["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_gpus_are_those_that_both_engines_share(
    objects: tuple[Object, ...], config: HyperRagConfig
) -> None:
    gpus = "nvidia.com/gpu"
    offered = {
        name: int(pod(objects, name).container["resources"]["limits"].get(gpus, 0))
        * groups(objects)[name]["replicas"]
        for name in groups(objects)
    }
    place = config.placement
    needed = (
        config.reranker.num_replicas * place.reranker_gpus
        + config.generator.num_replicas * place.generator_gpus
    )
    assert offered["cpu"] == 0
    assert offered["gpu"] == pytest.approx(needed)
    assert config.models.reranker.device == config.models.generator.device == "cuda"
    assert place.max_surge_percent == 0, "no GPU is free for a successor"


def test_budgets_leave_pods_to_go_where_there_are_several(objects: tuple[Object, ...]) -> None:
    for budget in of_kind(objects, "PodDisruptionBudget").values():
        assert budget["spec"].keys() == {"minAvailable", "selector"}, "no scale subresource here"
        wanted = budget["spec"]["selector"]["matchLabels"]
        [chosen] = [p.name for p in pods(objects) if wanted.items() <= p.labels.items()]
        assert 1 <= budget["spec"]["minAvailable"] <= groups(objects)[chosen]["minReplicas"]


def test_probes_hit_the_port_that_serve_listens_on(
    objects: tuple[Object, ...], config: HyperRagConfig
) -> None:
    for name in ("cpu", "gpu"):
        ports = {p["name"]: p["containerPort"] for p in pod(objects, name).container["ports"]}
        assert ports == {"serve": config.ingress.port, "metrics": 8080}
    [service] = of_kind(objects, "RayService").values()
    assert service["spec"]["excludeHeadPodFromServeSvc"]
    assert config.ingress.host == "0.0.0.0"
