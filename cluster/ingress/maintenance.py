"""Filling the store ahead of questions, and checking it."""

from collections.abc import AsyncGenerator
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field
from starlette.responses import JSONResponse

from actors.messages import CacheReport, PrecomputeRequest
from cluster.deadline import Deadline
from cluster.ingress.auth import Tenant
from cluster.ingress.context import Context, ContextDep
from cluster.ingress.schemas import Body, collection_of, read_body
from cluster.ingress.sse import event_stream

router = APIRouter()

PAGE_PASSAGES = 16
"""Of one call to the reranker: short enough that questions get in between."""


class Warm(Body):
    collection: str | None = None
    after: str | None = None
    """Continue here: `next_after` of an answer before."""
    limit: int | None = Field(None, ge=1)
    """Most passages of this call; all without one."""
    stream: bool = False


class Check(Body):
    repair: bool = False


@router.post("/v1/warm")
async def warm(request: Request, tenant: Tenant, context: ContextDep) -> Response:
    """Compute segments of a collection's passages, page by page. With `stream` every page is an
    event; without, the answer comes after `request_timeout_s` at the latest: `done` tells whether
    all is there, `next_after` where to continue."""
    body = await read_body(request, Warm)
    ingress = context.config.ingress
    name = collection_of(body.collection, ingress)
    deadline = Deadline(ingress.ingest_timeout_s)
    events = _pages(context, tenant, name, body, deadline)
    if body.stream:
        return await event_stream(events)
    last: dict[str, Any] = {}
    async for event in events:
        last = event
        if deadline.elapsed_s > ingress.request_timeout_s:
            break
    await events.aclose()
    return JSONResponse(last)


@router.post("/v1/check")
async def check(request: Request, tenant: Tenant, context: ContextDep) -> dict[str, Any]:
    """Read every segment of the store and compare checksums; `repair` removes what is damaged."""
    body = await read_body(request, Check)
    reranker = context.services.reranker
    return await reranker.check_store(body.repair, context.config.ingress.ingest_timeout_s)


async def _pages(
    context: Context, tenant: str, collection: str, body: Warm, deadline: Deadline
) -> AsyncGenerator[dict[str, Any]]:
    """The sum so far, after every page."""
    after, num_passages, report = body.after, 0, CacheReport()
    services = context.services
    while True:
        size = min(PAGE_PASSAGES, (body.limit or num_passages + PAGE_PASSAGES) - num_passages)
        page = await services.corpus.passages(tenant, collection, after, size, deadline.left_s())
        if page.passages:
            texts = tuple(passage.text for passage in page.passages)
            request = PrecomputeRequest(tenant, texts, deadline.left_s())
            report += await services.reranker.precompute(request)
        num_passages, after = num_passages + len(page.passages), page.next_after
        yield {
            "collection": collection,
            "num_passages": num_passages,
            "cache": asdict(report),
            "next_after": after,
            "done": after is None,
        }
        if after is None or (body.limit is not None and num_passages >= body.limit):
            return
