"""No pod can do more than it needs, whatever the overlay."""

import re

import pytest

from tests.infra.manifests import Object, containers, of_kind, overlay, pods, ray_cluster
from tests.infra.serve_config import OVERLAYS

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
PINNED = re.compile(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*")
SECRETS = {"hyperrag-api-keys": {"keys.yaml"}, "hyperrag-redis": {"password"}}
"""What infra/kuberay/secrets makes: names, and the keys of each."""


@pytest.fixture(params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> tuple[Object, ...]:
    return overlay(request.param)


def test_no_container_runs_as_root_or_writes_to_its_image(objects: tuple[Object, ...]) -> None:
    assert len(containers(objects)) == 5
    for name, container in containers(objects).items():
        context = container["securityContext"]
        assert context["runAsNonRoot"] and context["readOnlyRootFilesystem"], name
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
    for pod in pods(objects):
        assert pod.spec["securityContext"]["runAsUser"] > 0
        assert pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.spec.keys()


def test_only_the_autoscaler_has_a_token_of_the_api_server(objects: tuple[Object, ...]) -> None:
    for pod in pods(objects):
        assert pod.spec["automountServiceAccountToken"] is False, pod.name
    holders = [
        name
        for name, container in containers(objects).items()
        if any(m["mountPath"] == TOKEN_PATH for m in container["volumeMounts"])
    ]
    assert holders == ["head/autoscaler"]


def test_images_are_pinned_and_requests_and_limits_are_given(objects: tuple[Object, ...]) -> None:
    for name, container in containers(objects).items():
        assert PINNED.fullmatch(container["image"]), name
        for kind in ("requests", "limits"):
            assert {"cpu", "memory"} <= container["resources"][kind].keys(), name
        memory = {container["resources"][kind]["memory"] for kind in ("requests", "limits")}
        assert len(memory) == 1, f"{name}: more memory than is asked for is killed for it"


def test_what_is_mounted_exists(objects: tuple[Object, ...]) -> None:
    claims, named = of_kind(objects, "PersistentVolumeClaim"), set[str]()
    for pod in pods(objects):
        mounts = {m["name"] for c in pod.spec["containers"] for m in c["volumeMounts"]}
        if pod.name == "head":
            mounts |= {m["name"] for m in ray_cluster(objects)["autoscalerOptions"]["volumeMounts"]}
        assert mounts == pod.volumes.keys(), pod.name
        for volume in pod.volumes.values():
            if "secret" in volume:
                assert volume["secret"]["secretName"] in SECRETS
            if "persistentVolumeClaim" in volume:
                named.add(volume["persistentVolumeClaim"]["claimName"])
    assert named == claims.keys()
    password = ray_cluster(objects)["gcsFaultToleranceOptions"]["redisPassword"]
    reference = password["valueFrom"]["secretKeyRef"]
    assert reference["key"] in SECRETS[reference["name"]]


def test_every_container_is_probed(objects: tuple[Object, ...]) -> None:
    for name, container in containers(objects).items():
        if name != "head/autoscaler":  # which KubeRay gives no place for it
            assert {"livenessProbe", "readinessProbe"} <= container.keys(), name
    ready = containers(objects)["gpu/ray-worker"]["readinessProbe"]["exec"]["command"]
    assert [part.rpartition(":8000")[2] for part in ready[-2:]] == ["/-/healthz", "/readyz"]


def test_nothing_is_reachable_but_what_a_policy_names(objects: tuple[Object, ...]) -> None:
    policies = of_kind(objects, "NetworkPolicy")
    everything = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert policies.pop("deny-all")["spec"] == everything
    for name, policy in policies.items():
        wanted = policy["spec"]["podSelector"].get("matchLabels", {}).items()
        chosen = {pod.name for pod in pods(objects) if wanted <= pod.labels.items()}
        assert chosen, f"{name} selects no pod"
        for rule in policy["spec"].get("ingress", ()):
            assert rule["from"], f"{name} lets everybody in"
        if any("to" not in rule for rule in policy["spec"].get("egress", ())):
            assert chosen == {"head"}, f"{name} lets more than the autoscaler out"
