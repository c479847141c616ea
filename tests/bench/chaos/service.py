"""The application on three nodes of this machine, and what Serve says of its replicas."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.serve.context import _get_global_client

from cluster.config import HyperRagConfig
from cluster.deploy import APP_NAME, IMPORT_PATH, deploy
from cluster.running import undeploy
from hyperrag import Client, HyperRagError
from tests.cluster.nodes import Nodes, nodes
from tests.cluster.running import free_port

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
        replicas = self._deployments()[deployment]["replicas"]
        return [int(r["pid"]) for r in replicas if r["state"] == "RUNNING"]

    def lacks(self) -> str:
        """What is missing for every replica to run and answer, and every node's shard to be a
        member that has recovered; empty when nothing is."""
        try:
            for name, deployment in self._deployments().items():
                states = Counter(replica["state"] for replica in deployment["replicas"])
                if states != {"RUNNING": deployment["target_num_replicas"]}:
                    return f"{name}: {sorted(states.elements())}"
            membership = self.nodes.membership()
            names = {member.name for member in membership.members}
            if membership.before or names != {"a", *WORKERS}:
                return f"{names} at epoch {membership.epoch}, moving: {bool(membership.before)}"
            for name in names:
                ray.get(self.nodes.shard(name).flush.remote(1.0), timeout=5)
            with Client(self.url, timeout_s=10) as client:
                return "" if client.ready() else "not ready"
        except (RayError, ValueError, HyperRagError) as error:
            return str(error)

    @staticmethod
    def _deployments() -> dict[str, Any]:
        """What Serve says of them, by name."""
        details = _get_global_client().get_serve_details()
        found: dict[str, Any] = details["applications"][APP_NAME]["deployments"]
        return found


def two_of_each(
    folder: Path,
    timeout_s: float,
    store: Mapping[str, Any],
    faults: tuple[str, ...] = (),
    **others: Any,
) -> HyperRagConfig:
    """Two replicas of what can be lost, on any of three nodes, each with a disk of its own. `store`
    and `others` are keys and sections of the configuration."""
    twice = {"num_replicas": 2}
    config = HyperRagConfig.parse(
        {
            "data_dir": str(folder),
            "retrieval": twice,
            "reranker": twice,
            "generator": twice | others.pop("generator", {}),
            "ingress": twice | {"port": free_port(), "request_timeout_s": timeout_s},
            "store": {"ssd_dir": str(folder / "segments-{node}"), **store},
            **others,
        }
    )
    return config.model_copy(update={"store": replace(config.store, faults=faults)}).resolved()


@contextmanager
def serving(
    config: HyperRagConfig,
    import_path: str = IMPORT_PATH,
    ray_config: Mapping[str, Any] | None = None,
) -> Iterator[Service]:
    with nodes(config.store, *WORKERS, ray_config=ray_config) as cluster:
        deploy(config, lambda _: None, START_S, import_path)
        try:
            yield Service(cluster, config)
        finally:
            undeploy()
