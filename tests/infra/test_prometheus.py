"""The files for Prometheus and Grafana, by themselves: valid, and about metrics that exist."""

import json
import re
import subprocess
from dataclasses import fields

import pytest
import yaml

from cluster.autoscaling.reporting import Reporter
from cluster.metrics import replicas
from cluster.metrics.families import Figure
from cluster.metrics.replicas import COUNT, DEVICE_TIER, REPLICAS
from cluster.metrics.request import Instruments
from cluster.metrics.store import COUNTERS, NODES, THREADS, TIERS, WHOLE
from tests.infra.promql import DASHBOARDS, PROMETHEUS, Panel, alerts, needs_prometheus, panels

METRIC = re.compile(r"\b(?:ray_)?hyperrag_[a-z_]+")
SAID_APART = {"hyperrag_part_up", "hyperrag_node_up", "hyperrag_members"}
"""Not from a table: `cluster.ingress.metrics` and `cluster.metrics.store`."""


@needs_prometheus
@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "prometheus.yml", "cluster.yml"),
        ("check", "rules", "rules.yml"),
        ("test", "rules", "rules_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["promtool", *command], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    tests = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    fired = {case["alertname"] for case in cases if case.get("exp_alerts")}
    assert fired == set(alerts())
    told = re.findall(r"^\| `(\w+)` \| \S", (PROMETHEUS / "README.md").read_text(), re.MULTILINE)
    assert set(told) == set(alerts())


def all_figures() -> list[Figure]:
    of_store = [*TIERS, *COUNTERS, *NODES, *THREADS, *WHOLE]
    return [*of_store, *REPLICAS, *DEVICE_TIER, *replicas.THREADS, *COUNT]


def exported() -> set[str]:
    """Names that the service gives its series."""
    figures = all_figures()
    tables = {f.name + ("_total" if f.kind == "counter" else "") for f in figures}
    families = Instruments("1", 1).families()
    suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    counted = {family.name + suffix for family in families for suffix in suffixes[family.type]}
    by_ray = {f"ray_{metric.info['name']}" for metric in vars(Reporter()).values()}
    return tables | counted | by_ray | SAID_APART


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: f"{panel.dashboard}: {panel.title}")
def test_panels_ask_for_what_is_exported(panel: Panel) -> None:
    named = {name for query in panel.queries for name in METRIC.findall(query)}
    assert named and named <= exported()


def test_alerts_ask_for_what_is_exported() -> None:
    named = {name for query in alerts().values() for name in METRIC.findall(query)}
    assert named <= exported()


def test_names_follow_the_conventions() -> None:
    """Base units in the name, `_total` for counters alone, and a help text for each."""
    for name in exported():
        assert not re.search(r"_(ms|milliseconds|mb|gb|kb)(_|$)", name), name
    figures = all_figures()
    for figure in figures:
        assert not figure.name.endswith("_total") and figure.help, figure.name
        assert all(getattr(figure, f.name) is not None for f in fields(figure))


def test_dashboards_can_be_provisioned_together() -> None:
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({board["uid"] for board in boards}) == len(boards) > 0
    for board in boards:
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)
        sources = {p["datasource"]["uid"] for p in board["panels"] if p["type"] != "row"}
        assert sources == {"${datasource}"}
