"""Which replicas may hold a GPU: those that start, run or stop, as Serve knows them."""

import logging
import time

from ray import serve
from ray.exceptions import RayError
from ray.serve.schema import DeploymentStatusOverview, ReplicaState

from cluster.autoscaling.rebalancer import Occupied
from cluster.autoscaling.splits import Split
from kvstore.supervised import SupervisedThread

_PERIOD_S = 0.5
_UNASKED_S = 10.0
"""Its thread ends when nobody has asked for so long."""
_log = logging.getLogger("hyperrag.autoscaler")


class Occupancy:
    """Asks Serve from a thread of its own: the answer comes from the event loop that must not be
    kept waiting for it."""

    def __init__(self, app_name: str, reranker: str, generator: str) -> None:
        self._app_name, self._names = app_name, (reranker, generator)
        self._latest: Occupied | None = None
        self._asked = time.monotonic()
        self._thread = SupervisedThread("autoscaler-occupancy", self._step, _PERIOD_S)

    def latest(self) -> Occupied | None:
        """None until the first answer. Never waits."""
        self._asked = time.monotonic()
        return self._latest

    def _step(self) -> bool:
        try:
            app = serve.status().applications[self._app_name]
            rank, write = (_count(app.deployments[name]) for name in self._names)
            self._latest = Occupied(Split(rank[0], write[0]), Split(rank[1], write[1]))
        except (KeyError, RayError) as error:  # the application ends
            _log.warning("replicas cannot be counted: %r", error)
        return time.monotonic() < self._asked + _UNASKED_S


def _count(deployment: DeploymentStatusOverview) -> tuple[int, int]:
    """Replicas that start or run, in whatever state, and those that stop."""
    stopping = deployment.replica_states.get(ReplicaState.STOPPING, 0)
    return sum(deployment.replica_states.values()) - stopping, stopping
