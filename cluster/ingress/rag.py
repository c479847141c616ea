"""POST /v1/rag/query: a question, its answer, and where the answer comes from.
POST /v1/rag/candidates: the same without the answer, all that was found and reranked."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from fastapi.responses import Response
from pydantic import Field
from starlette.responses import JSONResponse

from actors.messages import Message
from cluster.ingress.auth import Tenant
from cluster.ingress.collect import collect
from cluster.ingress.context import Context, ContextDep, RequestId
from cluster.ingress.json_body import json_router
from cluster.ingress.render import report_json, usage_json
from cluster.ingress.schemas import (
    Body,
    ChatTemplateKwargs,
    RetrievalOptions,
    SamplingOptions,
    Text,
    retrieval_of,
)
from cluster.ingress.sse import event_stream
from cluster.query import Answer, Piece, Query

router = json_router()


class Question(SamplingOptions):
    question: Text
    collection: str | None = None
    top_n: int | None = Field(None, description="passages that are found and reranked")
    top_k: int | None = Field(None, description="passages the answer is made from")
    stream: bool = False
    chat_template_kwargs: ChatTemplateKwargs = ()


@router.post("/v1/rag/query")
async def ask(
    body: Question, tenant: Tenant, context: ContextDep, request_id: RequestId
) -> Response:
    config = context.config
    options = RetrievalOptions(collection=body.collection, top_n=body.top_n, top_k=body.top_k)
    retrieval = retrieval_of(options, body.question, "question", config.retrieval, config.ingress)
    messages = (Message("user", body.question),)
    sampling, variables = body.sampling(config.generator), body.chat_template_kwargs
    query = Query(request_id, tenant, retrieval, messages, sampling, chat_template_kwargs=variables)
    if body.stream:
        return await event_stream(_events(context, query), context)
    return JSONResponse(_answer_json(query, await collect(context, query)))


class Search(Body):
    question: Text
    collection: str | None = None
    top_n: int | None = Field(None, description="passages that are found and reranked")


@router.post("/v1/rag/candidates")
async def candidates(
    body: Search, tenant: Tenant, context: ContextDep, request_id: RequestId
) -> Response:
    config = context.config
    options = RetrievalOptions(collection=body.collection, top_n=body.top_n)
    retrieval = retrieval_of(options, body.question, "question", config.retrieval, config.ingress)
    every = replace(retrieval, top_k=retrieval.top_n)
    found = await context.pipeline.candidates(request_id, tenant, every)
    return JSONResponse({"id": request_id, **report_json(found)})


async def _events(context: Context, query: Query) -> AsyncGenerator[dict[str, Any]]:
    """`{"delta": text}` for every piece, then the whole answer."""
    async with aclosing(context.pipeline.answer(query)) as events:
        async for event in events:
            if isinstance(event, Piece):
                yield {"delta": event.text}
            else:
                yield _answer_json(query, event)


def _answer_json(query: Query, answer: Answer) -> dict[str, Any]:
    return {
        "id": query.request_id,
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        **report_json(answer),
        "usage": usage_json(answer),
    }
