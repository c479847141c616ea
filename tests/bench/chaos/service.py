"""The application on three nodes of this machine, and what Serve says of its replicas."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.serve.context import _get_global_client

from cluster.config import HyperRagConfig
from cluster.deploy import APP_NAME, IMPORT_PATH, deploy
from cluster.running import undeploy
from hyperrag import Client, HyperRagError
from tests.cluster.nodes import Nodes, nodes

WORKERS = ("b", "c")
START_S = 300.0


@dataclass(frozen=True, slots=True)
class Service:
    nodes: Nodes
    config: HyperRagConfig

    @property
    def url(self) -> str:
        return f"http://{self.config.ingress.host}:{self.config.ingress.port}"

    def pids(self, deployment: str) -> list[int]:
        """Of its replicas that run."""
        details = _get_global_client().get_serve_details()["applications"][APP_NAME]
        replicas = details["deployments"][deployment]["replicas"]
        return [int(r["pid"]) for r in replicas if r["state"] == "RUNNING"]

    def is_whole(self) -> bool:
        """Every replica runs and answers, every node's shard is a member and has recovered."""
        try:
            details = _get_global_client().get_serve_details()["applications"][APP_NAME]
            if not all(_is_complete(d) for d in details["deployments"].values()):
                return False
            members = self.nodes.membership()
            names = {m.name for m in members.members}
            if members.before or names != {"a", *WORKERS}:
                return False
            for name in names:
                ray.get(self.nodes.shard(name).flush.remote(1.0), timeout=5)
            with Client(self.url, timeout_s=10) as client:
                return client.ready()
        except (RayError, ValueError, HyperRagError):
            return False


def _is_complete(deployment: dict[str, Any]) -> bool:
    replicas = deployment["replicas"]
    running = [replica for replica in replicas if replica["state"] == "RUNNING"]
    wanted: int = deployment["target_num_replicas"]
    return len(replicas) == len(running) == wanted


@contextmanager
def serving(config: HyperRagConfig, import_path: str = IMPORT_PATH) -> Iterator[Service]:
    with nodes(config.store, *WORKERS) as cluster:
        deploy(config, lambda _: None, START_S, import_path)
        try:
            yield Service(cluster, config)
        finally:
            undeploy()
