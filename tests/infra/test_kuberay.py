"""The Kubernetes objects of every overlay are what the API server and KubeRay accept."""

import json
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from cluster.config import HyperRagConfig
from tests.infra.manifests import Object, build, of_kind, overlay
from tests.infra.serve_config import KUBERAY, OVERLAYS, serve_config
from tests.tracked import ROOT

SCHEMA = ROOT.parent / "shared" / "schemas" / "kuberay" / "rayservice.schema.json"
KUBERNETES = "1.37"
FOREIGN = {"RayService", "ServiceMonitor"}
"""Kinds that are no part of Kubernetes itself."""

each_overlay = pytest.mark.parametrize("name", OVERLAYS)


def closed(schema: Any) -> Any:
    """Refuses fields that it does not list, as `kubectl apply` does."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            out[key] = {name: closed(each) for name, each in value.items()}
        elif key in ("items", "additionalProperties", "anyOf", "allOf", "oneOf", "not"):
            out[key] = closed(value)
        else:
            out[key] = value
    if "properties" in out:
        out.setdefault("additionalProperties", False)
    return out


@pytest.fixture(scope="module")
def kuberay() -> Callable[[Object], None]:
    if not SCHEMA.is_file():
        pytest.skip("needs KubeRay's schemas in ../shared/schemas/kuberay")
    schema = closed(json.loads(SCHEMA.read_text()))
    return partial(jsonschema.validate, schema=schema)


@each_overlay
def test_kuberay_accepts_the_service(name: str, kuberay: Callable[[Object], None]) -> None:
    [service] = of_kind(overlay(name), "RayService").values()
    kuberay(service)
    misspelt = deepcopy(service)
    misspelt["spec"]["rayClusterConfig"]["workerGroupSpecs"][1]["minReplica"] = 1
    with pytest.raises(jsonschema.ValidationError, match="minReplica"):
        kuberay(misspelt)


@each_overlay
def test_kubernetes_accepts_all_other_objects(name: str) -> None:
    own = [each for each in overlay(name) if each["kind"] not in FOREIGN]
    assert {each["kind"] for each in own} == {
        "Namespace", "Service", "StatefulSet", "PersistentVolumeClaim", "PodDisruptionBudget",
        "NetworkPolicy",
    }  # fmt: skip
    for each in own:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate({**each, "specs": {}}, KUBERNETES, strict=True)


@each_overlay
def test_what_serve_is_told_is_made_from_the_configuration(name: str) -> None:
    [service] = of_kind(overlay(name), "RayService").values()
    told = yaml.safe_load(service["spec"]["serveConfigV2"])
    assert told == serve_config(name), "stale: run `python -m tests.infra.serve_config`"
    [application] = ServeDeploySchema.model_validate(told).applications
    config = HyperRagConfig.parse(application.args)
    assert config.resolved({}) == config


def test_the_secrets_are_made_from_files_that_git_does_not_keep(tmp_path: Path) -> None:
    for source in (KUBERAY / "secrets").glob("*.yaml"):
        if source.name == "kustomization.yaml":
            (tmp_path / source.name).write_text(source.read_text())
    with pytest.raises(AssertionError, match="keys.yaml"):
        build(tmp_path)
    (tmp_path / "keys.yaml").write_text("keys: [{tenant: a, key: b}]\n")
    (tmp_path / "redis-password").write_text("secret")
    made = build(tmp_path)
    assert {each["metadata"]["name"] for each in made} == {"hyperrag-api-keys", "hyperrag-redis"}
    for each in made:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
        assert each["metadata"]["namespace"] == "hyperrag"
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/infra/kuberay/secrets/keys.yaml", "/infra/kuberay/secrets/redis-password"} <= {
        *ignored
    }
