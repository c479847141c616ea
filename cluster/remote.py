"""The services behind Serve handles: deadlines, cancellation and errors between processes.

Serve raises what a deployment raised wrapped in a RayTaskError; callers see the original. The end
of a replica is a ReplicaLostError, a full router an OverloadedError.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from uuid import uuid4

from prometheus_client.metrics_core import Metric
from ray.exceptions import (
    NodeDiedError,
    RayActorError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.serve.context import _set_request_context
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle

from actors.errors import ActorError, ExpiredError, OverloadedError, UnavailableError
from actors.messages import (
    DeleteResult,
    Document,
    DocumentPage,
    IngestResult,
    Neighbourhood,
    NeighbourhoodPage,
    RecordResult,
    SearchRequest,
    SearchResult,
)
from actors.texts import EmbedRequest, EmbedResult
from cluster.deadline import within
from cluster.errors import ReplicaLostError
from cluster.overview import Overview
from cluster.services import PassagePage, Status

T = TypeVar("T")

GRACE_S = 2.0
"""The caller waits this much longer than the deployment, whose own error says more."""
_LOST = (RayActorError, NodeDiedError, WorkerCrashedError, ReplicaUnavailableError)


class AbsentError(UnavailableError):
    """No replica of a deployment runs."""


@contextmanager
def translated(name: str) -> Iterator[None]:
    try:
        yield
    except BackPressureError as error:
        raise OverloadedError(f"the queue of {name}", error.retry_after_s or 1.0) from error
    except DeploymentUnavailableError as error:
        raise AbsentError(f"{name} has no running replica") from error
    except (*_LOST, TaskCancelledError) as error:
        raise ReplicaLostError(name, type(error).__name__) from error
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, ActorError):
            raise cause from error
        if isinstance(cause, _LOST):  # the replica's own upstream ended
            raise UnavailableError(f"{name} lost what it depends on, try again") from error
        raise


def name_apart() -> None:
    """To be called before every call. Serve names a call by the request that it is made for, and a
    router without FIFO finds but the first of those that are made at one time (Ray 2.60)."""
    _set_request_context(_internal_request_id=uuid4().hex)


@dataclass(frozen=True, slots=True)
class Remote:
    """One deployment. A plain response does not stop the work when who awaits it is cancelled."""

    name: str
    handle: DeploymentHandle
    overview: Overview = field(default_factory=Overview, kw_only=True)

    async def call(self, method: str, *args: Any, timeout_s: float) -> Any:
        with translated(self.name):
            name_apart()
            response = self.handle.options(method_name=method).remote(*args)
            try:
                return await within(response, timeout_s + GRACE_S, self.name)
            finally:
                response.cancel()  # of no effect once it is done

    async def broadcast(self, method: str, *args: Any, timeout_s: float) -> list[Any]:
        with translated(self.name):
            try:
                response = self.handle.broadcast(method, *args)
                return cast("list[Any]", await response.results_async(timeout_s=timeout_s))
            except TimeoutError as error:
                raise ExpiredError(f"{self.name} did not answer in {timeout_s:.1f} s") from error

    async def status(self, timeout_s: float) -> list[Status]:
        """Raises UnavailableError, which says of a deployment without a replica why it has none."""
        try:
            return cast("list[Status]", await self.broadcast("status", timeout_s=timeout_s))
        except AbsentError as error:
            deployment = self.handle.deployment_id
            why = await self.overview.why_absent(deployment.app_name, deployment.name)
            raise UnavailableError(f"{self.name} {why}") from error


class RemoteIngress(Remote):
    __slots__ = ()

    async def families(self, timeout_s: float) -> list[list[Metric]]:
        return await self.broadcast("families", timeout_s=timeout_s)


class RemoteRetriever(Remote):
    __slots__ = ()

    async def search(self, request: SearchRequest) -> SearchResult:
        call = self.call("search", request, timeout_s=request.timeout_s)
        return cast(SearchResult, await call)

    async def embed(self, request: EmbedRequest) -> EmbedResult:
        return cast(EmbedResult, await self.call("embed", request, timeout_s=request.timeout_s))

    async def refresh(self, tenant: str, collection: str, version: int, timeout_s: float) -> None:
        await self.broadcast("refresh", tenant, collection, version, timeout_s=timeout_s)


class RemoteCorpus(Remote):
    __slots__ = ()

    async def ingest(
        self, tenant: str, collection: str, documents: list[Document], timeout_s: float
    ) -> IngestResult:
        call = self.call("ingest", tenant, collection, documents, timeout_s=timeout_s)
        return cast(IngestResult, await call)

    async def delete(
        self, tenant: str, collection: str, ids: list[str], timeout_s: float
    ) -> DeleteResult:
        call = self.call("delete", tenant, collection, ids, timeout_s=timeout_s)
        return cast(DeleteResult, await call)

    async def collections(self, tenant: str, timeout_s: float) -> list[str]:
        return cast("list[str]", await self.call("collections", tenant, timeout_s=timeout_s))

    async def list_documents(
        self, tenant: str, collection: str, after: str | None, limit: int, timeout_s: float
    ) -> DocumentPage:
        args = (tenant, collection, after, limit)
        return cast(DocumentPage, await self.call("list_documents", *args, timeout_s=timeout_s))

    async def passages(
        self, tenant: str, collection: str, after: str | None, limit: int, timeout_s: float
    ) -> PassagePage:
        args = (tenant, collection, after, limit)
        return cast(PassagePage, await self.call("passages", *args, timeout_s=timeout_s))

    async def neighbourhoods(
        self,
        tenant: str,
        collection: str,
        after: str | None,
        limit: int,
        num: int,
        timeout_s: float,
    ) -> NeighbourhoodPage:
        args = (tenant, collection, after, limit, num)
        call = self.call("neighbourhoods", *args, timeout_s=timeout_s)
        return cast(NeighbourhoodPage, await call)

    async def record(
        self, tenant: str, collection: str, made: tuple[Neighbourhood, ...], timeout_s: float
    ) -> RecordResult:
        call = self.call("record", tenant, collection, made, timeout_s=timeout_s)
        return cast(RecordResult, await call)
