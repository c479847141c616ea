"""Filling the store ahead of questions, and checking it."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

from fastapi.responses import Response
from pydantic import Field
from starlette.responses import JSONResponse

from actors.messages import CacheReport, FuseRequest, PrecomputeRequest
from cluster.deadline import Deadline
from cluster.ingress.auth import Admin, Tenant
from cluster.ingress.context import Context, ContextDep
from cluster.ingress.errors import invalid
from cluster.ingress.ingestion import Change, spread
from cluster.ingress.json_body import json_router
from cluster.ingress.schemas import Body, Text, collection_of
from cluster.ingress.sse import event_stream

router = json_router()

PAGE_PASSAGES = 16
"""Of one call to an engine: short enough that questions get in between."""


class Pages(Body):
    """Passages of a collection, by document and place."""

    collection: str | None = None
    after: Text | None = None
    """Continue here: `next_after` of an answer before."""
    limit: int | None = Field(default=None, ge=1)
    """Most passages of this call; all without one."""
    stream: bool = False


class Check(Body):
    repair: bool = False


EVERY_PASSAGE, WITHOUT_REPAIR = Pages(), Check()
"""What a request without a body asks for."""


class Drain(Body):
    node: Text
    """Its name or id, as `/v1/status` has it."""


@dataclass(frozen=True, slots=True)
class Page:
    """What was done with some passages."""

    num_passages: int
    next_after: str | None
    report: CacheReport


Step = Callable[[str | None, int, Deadline], Awaitable[Page]]
"""What is done with so many passages from there on, by then."""


@dataclass(frozen=True, slots=True)
class Filling:
    """One call that goes over a collection."""

    context: Context
    tenant: str
    collection: str

    async def warm(self, after: str | None, limit: int, deadline: Deadline) -> Page:
        """Segments of passages, which the reranker computes."""
        left_s = deadline.left_s
        corpus, reranker = self.context.services.corpus, self.context.services.reranker
        page = await corpus.passages(self.tenant, self.collection, after, limit, left_s())
        texts = tuple(passage.text for passage in page.passages)
        report = CacheReport()
        if texts:
            report = await reranker.precompute(PrecomputeRequest(self.tenant, texts, left_s()))
        return Page(len(texts), page.next_after, report)

    async def fuse(self, after: str | None, limit: int, deadline: Deadline) -> Page:
        """Fused segments, which the generator makes; searches name them from the next version
        on."""
        left_s, services = deadline.left_s, self.context.services
        where, num = (self.tenant, self.collection), self.context.config.generator.fusion.neighbours
        page = await services.corpus.neighbourhoods(*where, after, limit, num, left_s())
        made = tuple(one for one in page.neighbourhoods if one.neighbours)
        report = CacheReport()
        if made:
            report = await services.generator.fuse(FuseRequest(self.tenant, made, left_s()))
            result = await services.corpus.record(*where, made, left_s())
            change = Change(*where, result.version, (), result.replaced)
            await spread(services, change, deadline)
        return Page(len(page.neighbourhoods), page.next_after, report)


@router.post("/v1/warm")
async def warm(tenant: Tenant, context: ContextDep, body: Pages = EVERY_PASSAGE) -> Response:
    """Compute segments of a collection's passages, page by page. With `stream` every page is an
    event; without, the answer comes after `request_timeout_s` at the latest: `done` tells whether
    all is there, `next_after` where to continue."""
    filling = _filling(context, tenant, body)
    return await _answer(filling, body, _pages(filling, body, filling.warm))


@router.post("/v1/fuse")
async def fuse(tenant: Tenant, context: ContextDep, body: Pages = EVERY_PASSAGE) -> Response:
    """Make the fused segments of a collection's passages; otherwise as `/v1/warm`. What is there
    already, with the neighbours that the passage has now, is left alone: so run it again after the
    collection changed, or where it broke off."""
    mode = context.config.generator.mode
    if mode not in ("fusion", "auto"):
        raise invalid("generator.mode", f"is {mode}; fused segments are for fusion and auto")
    filling = _filling(context, tenant, body)
    return await _answer(filling, body, _pages(filling, body, filling.fuse))


@router.post("/v1/check")
async def check(admin: Admin, context: ContextDep, body: Check = WITHOUT_REPAIR) -> dict[str, Any]:
    """Read every segment of the store and compare checksums; `repair` removes what is damaged."""
    deadline = context.limits.ingest()
    checked = context.services.store.check(body.repair, deadline.left_s())
    return await deadline.bound(checked, "check")


@router.post("/v1/drain")
async def drain(body: Drain, admin: Admin, context: ContextDep) -> dict[str, Any]:
    """A node gives its segments to the others before it is taken away: `/v1/status` says when it
    has."""
    deadline = context.limits.request()
    await deadline.bound(context.services.store.drain(body.node, deadline.left_s()), "drain")
    return {"node": body.node, "state": "draining"}


def _filling(context: Context, tenant: str, body: Pages) -> Filling:
    ingress = context.config.ingress
    name = collection_of(body.collection, ingress)
    return Filling(context, tenant, name)


async def _answer(
    filling: Filling, body: Pages, events: AsyncGenerator[dict[str, Any]]
) -> Response:
    """Every event, or the last that came in time."""
    if body.stream:
        return await event_stream(events, filling.context)
    last: dict[str, Any] = {}
    limits = filling.context.limits
    async for event in events:
        last = event
        if limits.ingest().elapsed_s > limits.config.request_timeout_s:
            break
    await events.aclose()
    return JSONResponse(last)


async def _pages(filling: Filling, body: Pages, step: Step) -> AsyncGenerator[dict[str, Any]]:
    """The sum so far, after every page."""
    after, num_passages, report = body.after, 0, CacheReport()
    limits = filling.context.limits
    deadline = limits.ingest()
    while True:
        size = min(PAGE_PASSAGES, (body.limit or num_passages + PAGE_PASSAGES) - num_passages)
        page = await deadline.bound(step(after, size, deadline), "a page of passages")
        num_passages, after = num_passages + page.num_passages, page.next_after
        report += page.report
        yield {
            "collection": filling.collection,
            "num_passages": num_passages,
            "cache": asdict(report),
            "next_after": after,
            "done": after is None,
        }
        if after is None or (body.limit is not None and num_passages >= body.limit):
            return
        deadline = limits.page() if body.stream else deadline
