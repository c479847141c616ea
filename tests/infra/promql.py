"""The queries of the shipped dashboards and alerts, and a real Prometheus to ask them of."""

import json
import math
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.cluster.running import free_port
from tests.tracked import ROOT

PROMETHEUS = ROOT / "infra" / "prometheus"
DASHBOARDS = sorted((ROOT / "infra" / "grafana" / "dashboards").glob("*.json"))
AUTOSCALER = "HyperRAG: autoscaler"
"""The dashboard whose series come from Ray's agent of the node, not from `/metrics`."""
WINDOW = "[20s]"
"""In place of Grafana's $__rate_interval: several scrapes."""
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="prometheus and promtool are not installed (Debian and Ubuntu: apt install prometheus)",
)


@dataclass(frozen=True, slots=True)
class Panel:
    dashboard: str
    title: str
    queries: tuple[str, ...]


def panels() -> list[Panel]:
    """Of all dashboards, rows left out. Those of Ray's own export are told by `AUTOSCALER`."""
    found = []
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        for panel in dashboard["panels"]:
            queries = tuple(target["expr"] for target in panel.get("targets", ()))
            if panel["type"] != "row":
                found.append(Panel(dashboard["title"], panel["title"], queries))
    return found


def alerts() -> dict[str, str]:
    """Their expressions by name."""
    rules = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    return {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}


class Prometheus:
    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)

    def query(self, expression: str) -> list[float]:
        """The values it has now."""
        data = self._get("query", query=expression)
        assert data["resultType"] == "vector"
        return [float(sample["value"][1]) for sample in data["result"]]

    def eventually(self, query: str, limit_s: float = 20.0) -> list[float]:
        """The numbers that it yields, once it yields any; Grafana's interval is WINDOW here."""
        give_up = time.monotonic() + limit_s
        while True:
            found = self.query(query.replace("[$__rate_interval]", WINDOW))
            values = [value for value in found if not math.isnan(value)]
            if values or time.monotonic() > give_up:
                return values
            time.sleep(0.5)

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get("targets")["activeTargets"]
        return found

    def ready(self) -> bool:
        try:
            return self._http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def close(self) -> None:
        self._http.close()

    def _get(self, what: str, **parameters: str) -> Any:
        response = self._http.get(f"/api/v1/{what}", params=parameters)
        assert response.status_code == 200, response.text
        return response.json()["data"]


@contextmanager
def prometheus(folder: Path, target: str, interval: str) -> Iterator[Prometheus]:
    """The laptop's configuration as shipped, with another target and interval."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
    config["rule_files"] = [str(PROMETHEUS / "rules.yml")]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus",
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    started = Prometheus(f"http://{address}")
    try:
        give_up = time.monotonic() + 60
        while not started.ready():
            assert process.poll() is None and time.monotonic() < give_up, (
                folder / "prometheus.log"
            ).read_text()
            time.sleep(0.1)
        yield started
    finally:
        started.close()
        process.terminate()
        process.wait(30)
