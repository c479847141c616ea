"""What the assembled application asks of Serve, deployment by deployment."""

from typing import Any

from ray.serve import Application
from ray.serve.deployment import deployment_to_schema
from ray.serve.schema import DeploymentSchema

from cluster.config import load
from tests.cluster.small_app import build

ENGINES = {"Reranker", "Generator"}
ALL = {"Ingress", "Retriever", "CorpusService", *ENGINES}


def deployments(overrides: dict[str, Any]) -> dict[str, DeploymentSchema]:
    """What Serve is told about each, by name."""
    root = build(load(overrides=overrides, environ={}).resolved({}).model_dump(mode="json"))
    front = root._bound_deployment
    parts = [arg._bound_deployment for arg in front.init_args if isinstance(arg, Application)]
    return {d.name: deployment_to_schema(d) for d in (front, *parts)}


def test_who_is_replaced_waits_for_its_successor_and_ends_its_requests() -> None:
    limits = {"ingress.request_timeout_s": 30.0, "ingress.stream_timeout_s": 60.0}
    found = deployments({**limits, "ingress.ingest_timeout_s": 90.0})
    assert found.keys() == ALL
    assert {d.graceful_shutdown_timeout_s for d in found.values()} == {90.0}
    streaming = deployments({"ingress.stream_timeout_s": 900.0})
    assert {d.graceful_shutdown_timeout_s for d in streaming.values()} == {900.0}
    surge = {name: d.max_surge_percent for name, d in found.items()}
    assert surge == {name: 0 if name == "CorpusService" else 100 for name in ALL}


def test_engines_that_fill_all_gpus_do_not_wait_for_room() -> None:
    found = deployments({"placement.max_surge_percent": 0})
    surge = {name: d.max_surge_percent for name, d in found.items()}
    assert {name for name in ALL if surge[name] == 0} == {"CorpusService", *ENGINES}


def test_what_needs_no_gpu_goes_to_the_nodes_with_the_labels() -> None:
    labels = {"hyperrag/group": "cpu"}
    found = deployments({"placement.cpu_labels": labels, "models.reranker.device": "cuda"})
    asked = {name: d.ray_actor_options.label_selector for name, d in found.items()}
    assert asked == {name: None if name in ENGINES else labels for name in ALL}
    assert found["Reranker"].ray_actor_options.num_gpus == 1
    assert not any(d.ray_actor_options.label_selector for d in deployments({}).values())
