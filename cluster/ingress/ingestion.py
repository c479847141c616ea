"""After the corpus changed: searches see it, and segments of passages that went are dropped."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from actors.errors import ActorError
from actors.messages import FusedSegment
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
    fused: tuple[FusedSegment, ...] = ()
    """Fused segments that the collection no longer names."""


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
    if change.gone or change.fused:
        await _forget(services, change, deadline)
    return searchable


async def _forget(services: Services, change: Change, deadline: Deadline) -> None:
    tenant, gone, fused = change.tenant, change.gone, change.fused
    with _logged(len(gone) + len(fused)):
        await services.reranker.forget(tenant, gone, deadline.left_s())
    with _logged(len(gone) + len(fused)):
        await services.generator.forget(tenant, gone, fused, deadline.left_s())


@contextmanager
def _logged(num_passages: int) -> Iterator[None]:
    try:
        yield
    except (ActorError, ReplicaLostError) as error:
        _log.warning("segments of %d passages stay: %s", num_passages, error)
