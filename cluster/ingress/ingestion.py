"""After the corpus changed: searches see it, and segments of passages that went are dropped."""

import logging
from dataclasses import dataclass

from actors.errors import ActorError
from cluster.deadline import Deadline
from cluster.errors import ReplicaLostError
from cluster.services import Services

_log = logging.getLogger("hyperrag.ingress")


@dataclass(frozen=True, slots=True)
class Change:
    tenant: str
    collection: str
    version: int
    gone: tuple[str, ...]
    """Texts of passages that no longer exist."""


async def spread(services: Services, change: Change, deadline: Deadline) -> bool:
    """Whether every retriever searches the new version by now. The change itself is published: a
    retriever that did not answer follows by itself, and segments left behind age out."""
    try:
        await services.retriever.refresh(
            change.tenant, change.collection, change.version, deadline.left_s()
        )
        searchable = True
    except (ActorError, ReplicaLostError) as error:
        _log.warning("collection version %d is not everywhere yet: %s", change.version, error)
        searchable = False
    if change.gone:
        await _forget(services, change, deadline)
    return searchable


async def _forget(services: Services, change: Change, deadline: Deadline) -> None:
    for service in (services.reranker, services.generator):
        try:
            await service.forget(change.tenant, change.gone, deadline.left_s())
        except (ActorError, ReplicaLostError) as error:
            _log.warning("segments of %d passages stay: %s", len(change.gone), error)
