"""The policy as Serve's controller calls it, with Serve's own contexts; no Ray."""

import json
import logging
import time
from typing import Any

import pytest
from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from actors.work_meter import ARRIVED, BUSY_S, COMPLETED, WAITING
from cluster.autoscaler import Policy
from cluster.config import HyperRagConfig, load
from cluster.deploy import serve_schema
from cluster.errors import ConfigError
from tests.cluster.small_app import build

SETTINGS: dict[str, Any] = {"gpus": 3, "evidence_s": 0.0, "tick_s": 0.001, "window_s": 10.0}
RERANKER, GENERATOR = DeploymentID("Reranker", "app"), DeploymentID("Generator", "app")


def context(
    deployment: DeploymentID, replicas: int, per_s: float, service_s: float, waiting: float
) -> AutoscalingContext:
    """Replicas that have reported twice, five seconds apart."""
    ids = [ReplicaID(str(i), deployment) for i in range(replicas)]
    now = time.time()
    each = per_s / replicas
    totals = {
        ARRIVED: 5 * each, COMPLETED: 5 * each, BUSY_S: 5 * each * service_s, WAITING: waiting
    }  # fmt: skip
    raw = {
        name: {i: [TimeStampedValue(now - 6, 0.0), TimeStampedValue(now - 1, end)] for i in ids}
        for name, end in totals.items()
    }
    return AutoscalingContext(
        deployment_id=deployment,
        deployment_name=deployment.name,
        app_name="app",
        current_num_replicas=replicas,
        target_num_replicas=replicas,
        running_replicas=ids,
        total_num_requests=0.0,
        total_queued_requests=0.0,
        aggregated_metrics={},
        raw_metrics=raw,
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=2,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=now,
        config=AutoscalingConfig(),
    )


def contexts(rate: float, t_rerank: float, t_generate: float) -> dict[Any, AutoscalingContext]:
    """Two rerankers and a generator."""
    return {
        RERANKER: context(RERANKER, 2, rate, t_rerank, 1.0),
        GENERATOR: context(GENERATOR, 1, rate, t_generate, 1.0),
    }


def test_it_first_shrinks_and_says_nothing_of_others() -> None:
    retriever = DeploymentID("Retriever", "app")
    others = {retriever: context(retriever, 1, 1.0, 1.0, 0.0)}
    answer, state = Policy(**SETTINGS)(contexts(1.1, 0.4, 1.6) | others)
    assert (answer, state) == ({RERANKER: 1, GENERATOR: 1}, None)
    answer, _ = Policy(**SETTINGS)(contexts(0.9, 2.0, 1.0))
    assert answer == {RERANKER: 2, GENERATOR: 1}


def test_it_leaves_an_application_alone_that_lacks_one_of_both() -> None:
    assert Policy(**SETTINGS)({RERANKER: contexts(1, 1, 1)[RERANKER]}) == ({}, None)


def test_only_the_window_is_looked_at() -> None:
    """All reports are older than a second."""
    short = Policy(**SETTINGS | {"window_s": 0.5})
    assert short(contexts(1.1, 0.4, 1.6))[0] == {RERANKER: 2, GENERATOR: 1}


def test_a_call_takes_less_than_a_hundredth_of_its_period() -> None:
    policy, given = Policy(**SETTINGS | {"tick_s": 5.0}), contexts(0.9, 2.0, 1.0)
    policy(given)
    started = time.perf_counter()
    for _ in range(1000):
        policy(given)
    assert (time.perf_counter() - started) / 1000 < 0.001


def test_every_decision_is_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    policy = Policy(**SETTINGS)
    policy(contexts(1.1, 0.4, 1.6))
    line = json.loads(capsys.readouterr().err)
    assert (line["autoscaler"], line["why"]) == ("move", "gain")
    assert line["best"] == {"rerank": 1, "generate": 2}
    assert line["load"]["generate"]["service_s"] == pytest.approx(1.6)
    assert line["utilisation"] > 1 > line["predicted"] > 0.8
    logging.getLogger("hyperrag.autoscaler").handlers.clear()


def test_a_budget_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="gpus is 1"):
        Policy(gpus=1)


def resolved(**overrides: object) -> HyperRagConfig:
    keys = {f"autoscaler.{key}": value for key, value in overrides.items()}
    return load(overrides={"reranker.num_replicas": 2, **keys}, environ={}).resolved({})


def schema_of(config: HyperRagConfig) -> Any:
    (application,) = serve_schema(config).applications
    return application


def test_without_it_replicas_are_counted_by_the_configuration() -> None:
    config = resolved()
    assert schema_of(config).autoscaling_policy is None
    assert _deployments(config)["Reranker"].num_replicas == 2
    assert _deployments(config)["Reranker"]._deployment_config.autoscaling_config is None


def test_serve_gets_bounds_windows_and_the_time_to_stop() -> None:
    config = resolved(enabled=True, gpus=4, window_s=20.0, tick_s=4.0, drain_s=45.0)
    rank = _deployments(config)["Reranker"]._deployment_config
    scaling = rank.autoscaling_config
    assert (scaling.min_replicas, scaling.initial_replicas, scaling.max_replicas) == (1, 2, 3)
    assert (scaling.look_back_period_s, scaling.metrics_interval_s) == (20.0, 4.0)
    assert scaling.upscale_delay_s == scaling.downscale_delay_s == 0.0
    assert rank.graceful_shutdown_timeout_s == 45.0
    others = _deployments(config)["Retriever"]._deployment_config
    assert others.autoscaling_config is None and others.graceful_shutdown_timeout_s == 600.0
    policy = schema_of(config).autoscaling_policy
    assert policy["policy_function"] == "cluster.autoscaler:Policy"
    assert Policy(**policy["policy_kwargs"])


def test_the_budget_is_what_both_take_unless_it_is_given() -> None:
    assert resolved(enabled=True).autoscaler.gpus == 3.0
    assert resolved(enabled=True, gpus=7.5).autoscaler.gpus == 7.5
    floor = resolved(enabled=True, gpus=4, autoscale_total=True, min_gpus=3.0).budget
    assert min(floor.taken(split) for split in floor.splits()) == 3.0
    assert resolved(enabled=True, gpus=4, min_gpus=3.0).budget.floor is None


@pytest.mark.parametrize(
    "wrong", [{"gpus": 2}, {"gpus": 4, "autoscale_total": True, "min_gpus": 5}]
)
def test_a_budget_that_cannot_hold_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"autoscaler\.gpus"):
        resolved(enabled=True, **wrong)


def test_device_tiers_of_all_replicas_there_can_be_leave_half_of_the_arena() -> None:
    tier = {"store.dram_bytes": 1000, "reranker.device_tier.bytes": 250}
    load(overrides=tier, environ={})
    with pytest.raises(ConfigError, match="750 bytes"):
        load(overrides={**tier, "autoscaler.enabled": True, "autoscaler.gpus": 4}, environ={})


def _deployments(config: HyperRagConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def visit(node: Any) -> None:
        bound = node._bound_deployment
        found[bound.name] = bound
        for argument in bound.init_args:
            if hasattr(argument, "_bound_deployment"):
                visit(argument)

    visit(build(config.model_dump(mode="json")))
    return found
