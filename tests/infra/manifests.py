"""The Kubernetes objects of an overlay, as kustomize builds them, and what pods they make."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.infra.serve_config import KUBERAY

Object = dict[str, Any]
KUBECTL = Path(sys.executable).parent / "kubectl"
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "m": 0.001, "": 1}


@dataclass(frozen=True, slots=True)
class Pod:
    """What a template makes, or that part of it which KubeRay adds from an option."""

    name: str
    labels: dict[str, str]
    spec: Object

    @property
    def container(self) -> Object:
        found: Object = self.spec["containers"][0]
        return found

    @property
    def volumes(self) -> dict[str, Object]:
        return {volume["name"]: volume for volume in self.spec.get("volumes", ())}


def build(folder: Path) -> list[Object]:
    """Raises AssertionError with what kustomize says."""
    command = [str(KUBECTL), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@cache
def overlay(name: str) -> tuple[Object, ...]:
    return tuple(build(KUBERAY / "overlays" / name))


def of_kind(objects: tuple[Object, ...], kind: str) -> dict[str, Object]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def ray_cluster(objects: tuple[Object, ...]) -> Object:
    [service] = of_kind(objects, "RayService").values()
    cluster: Object = service["spec"]["rayClusterConfig"]
    return cluster


def groups(objects: tuple[Object, ...]) -> dict[str, Object]:
    return {each["groupName"]: each for each in ray_cluster(objects)["workerGroupSpecs"]}


def pods(objects: tuple[Object, ...]) -> Iterator[Pod]:
    cluster = ray_cluster(objects)
    head = cluster["headGroupSpec"]["template"]
    yield Pod("head", head["metadata"]["labels"], head["spec"])
    for name, group in groups(objects).items():
        template = group["template"]
        yield Pod(name, template["metadata"]["labels"] | group["labels"], template["spec"])
    for name, each in of_kind(objects, "StatefulSet").items():
        template = each["spec"]["template"]
        claims = each["spec"]["volumeClaimTemplates"]
        made = [{"name": c["metadata"]["name"], "volumeClaimTemplate": c} for c in claims]
        spec = {**template["spec"], "volumes": [*template["spec"].get("volumes", ()), *made]}
        yield Pod(name, template["metadata"]["labels"], spec)


def containers(objects: tuple[Object, ...]) -> dict[str, Object]:
    """By pod and name; the autoscaler too, which KubeRay adds to the head with its image."""
    found = {f"{pod.name}/{c['name']}": c for pod in pods(objects) for c in pod.spec["containers"]}
    cluster = ray_cluster(objects)
    head = found["head/ray-head"]
    return found | {
        "head/autoscaler": {"image": head["image"], **cluster["autoscalerOptions"]},
    }


def quantity(text: str) -> float:
    """Bytes, or cores."""
    digits = text.rstrip("KMGTim")
    return float(digits) * UNITS[text[len(digits) :]]
