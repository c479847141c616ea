"""Application-level autoscaling policy of Ray Serve: the split of a GPU budget, and its total.

Serve's controller calls it every tenth of a second, in its own event loop: it reads what it was
given and what a thread has found out meanwhile, and waits for nothing.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ray.serve.config import AutoscalingContext

from cluster.autoscaling.config import AutoscalerConfig
from cluster.autoscaling.decision import Load
from cluster.autoscaling.measuring import Measuring, totals
from cluster.autoscaling.occupancy import Occupancy
from cluster.autoscaling.rebalancer import Occupied, Rebalancer, Seen
from cluster.autoscaling.reporting import Reporter
from cluster.autoscaling.splits import Split
from cluster.config import HyperRagConfig

RERANKER, GENERATOR = "Reranker", "Generator"
POLICY = "cluster.autoscaler:Policy"

Contexts = Mapping[Any, AutoscalingContext]
"""By Serve's deployment id."""


class Policy:
    """`policy_kwargs` of the application are the keys of the `autoscaler` section, and what one
    replica of each takes of the budget."""

    def __init__(
        self, reranker_gpus: float = 1.0, generator_gpus: float = 1.0, **settings: Any
    ) -> None:
        self._config = AutoscalerConfig(**settings)
        budget = self._config.budget(reranker_gpus, generator_gpus)
        if not budget.splits():
            raise ValueError(f"gpus is {budget.gpus}, must be enough for one replica of each")
        self._rebalancer = Rebalancer(self._config, budget)
        self._measuring = Measuring()
        self._occupancy: Occupancy | None = None
        self._reporter = Reporter()

    def __call__(self, contexts: Contexts) -> tuple[dict[Any, int], None]:
        own = {c.deployment_name: (key, c) for key, c in contexts.items()}
        if RERANKER not in own or GENERATOR not in own:  # while the application changes
            return {}, None
        (rank_id, rank), (write_id, write) = own[RERANKER], own[GENERATOR]
        now = time.time()
        seen = Seen(
            Split(rank.target_num_replicas, write.target_num_replicas),
            Split(rank.current_num_replicas, write.current_num_replicas),
            self._occupied(str(rank.app_name)),
            self._load(rank, write, now) if self._rebalancer.due(now) else None,
        )
        verdict = self._rebalancer.step(now, seen)
        if verdict.event:
            self._reporter.report(seen, verdict, self._rebalancer.switch_s)
        return {rank_id: verdict.targets.rerank, write_id: verdict.targets.generate}, None

    def _load(self, rank: AutoscalingContext, write: AutoscalingContext, now: float) -> Load | None:
        since = max(now - self._config.window_s, self._rebalancer.measured_from)
        return self._measuring.load(
            totals(rank.raw_metrics or {}, since), totals(write.raw_metrics or {}, since)
        )

    def _occupied(self, app_name: str) -> Occupied | None:
        """Asked for only while something moves."""
        if not self._rebalancer.moving:
            self._occupancy = None
            return None
        if self._occupancy is None:
            self._occupancy = Occupancy(app_name, RERANKER, GENERATOR)
        return self._occupancy.latest()


def policy_kwargs(config: HyperRagConfig) -> dict[str, Any]:
    """From a resolved configuration."""
    place = config.placement
    return {
        **asdict(config.autoscaler),
        "reranker_gpus": place.reranker_gpus,
        "generator_gpus": place.generator_gpus,
    }
