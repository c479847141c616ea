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


@dataclass(frozen=True, slots=True)
class Spread:
    """How far a change got. The change itself is published: a retriever that did not answer
    follows by itself."""

    searchable: bool
    """Every retriever searches the new version by now."""
    segments_removed: bool
    """No stored KV of the passages that went is left, or can come back. Where this is not so, no
    search asks for it, and nodes that run go on trying."""


async def spread(services: Services, change: Change, deadline: Deadline) -> Spread:
    """Tell those who search, and those who store."""
    try:
        await services.retriever.refresh(
            change.tenant, change.collection, change.version, deadline.left_s()
        )
        searchable = True
    except (ActorError, ReplicaLostError) as error:
        _log.warning("collection version %d is not everywhere yet: %s", change.version, error)
        searchable = False
    return Spread(searchable, await _forget(services, change, deadline))


async def _forget(services: Services, change: Change, deadline: Deadline) -> bool:
    """Whether the segments of what went are removed for good."""
    tenant, gone, fused = change.tenant, change.gone, change.fused
    failures: list[Exception] = []
    with _collected(failures):
        if gone or fused:
            await services.reranker.forget(tenant, gone, deadline.left_s())
    with _collected(failures):
        if gone or fused:
            await services.generator.forget(tenant, gone, fused, deadline.left_s())
    for error in failures:
        _log.warning("segments of %d passages may stay: %s", len(gone) + len(fused), error)
    return not failures


@contextmanager
def _collected(failures: list[Exception]) -> Iterator[None]:
    try:
        yield
    except (ActorError, ReplicaLostError) as error:
        failures.append(error)
