"""A request router of Serve that sends a request to the replica it was meant for.

A request says whom it is for by `replicas`, best first: the replica whose device tier has its KV.
One that is gone is passed over, and who names nobody gets the shorter queue of two, as with Serve's
own router. Requests keep their own choice: with Serve's FIFO a replica that was chosen for one
request would go to whichever has waited longest.
"""

import random
from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from cluster import replicas


class AffinityRouter(RequestRouter):  # type: ignore[misc]  # Ray has no types
    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Ranks of replicas, best first; Serve takes one of the first rank that has room."""
        if pending_request is not None:  # without, Serve asks again at once while all are full
            pending_request.routing_context.should_backoff = True
        by_id = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        wanted = [by_id.pop(name) for name in _wanted(pending_request) if name in by_id]
        rest = list(by_id.values())
        two = random.sample(rest, min(2, len(rest)))
        return [[replica] for replica in wanted] + ([two] if two else [])

    def update_replicas(self, running: list[RunningReplica]) -> None:
        super().update_replicas(running)
        ids = tuple(replica.replica_id.unique_id for replica in running)
        replicas.learn(self._deployment_id.name, ids)


def _wanted(pending_request: PendingRequest | None) -> tuple[str, ...]:
    arguments: list[Any] = pending_request.args if pending_request is not None else []
    return getattr(arguments[0], "replicas", ()) if arguments else ()
