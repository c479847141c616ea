"""POST /v1/responses: OpenAI's newer form of a chat, without what needs a memory of its own."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from typing import Any

from fastapi.responses import Response
from starlette.responses import JSONResponse

from cluster.ingress.auth import Tenant
from cluster.ingress.chat import query_of
from cluster.ingress.collect import collect
from cluster.ingress.context import Context, ContextDep, RequestId
from cluster.ingress.json_body import json_router
from cluster.ingress.models import generator_of
from cluster.ingress.render import report_json
from cluster.ingress.responses_body import ResponsesBody
from cluster.ingress.sse import event_stream
from cluster.query import Answer, Piece, Query

router = json_router()

_PLACE = {"output_index": 0}
_PART = {**_PLACE, "content_index": 0}


@router.post("/v1/responses")
async def respond(
    body: ResponsesBody, tenant: Tenant, context: ContextDep, request_id: RequestId
) -> Response:
    model = generator_of(body.model, context.config.ingress)
    query = query_of(body.as_chat(), model, "input", tenant, context, request_id)
    form = Form(body, model.name, request_id, int(time.time()))
    if body.stream:
        return await event_stream(_events(context, query, form), context, named=True)
    return JSONResponse(form.whole(await collect(context, query)))


@dataclass(frozen=True, slots=True)
class Form:
    """How one request's answer is shown."""

    body: ResponsesBody
    model: str
    request_id: str
    created: int

    @property
    def item_id(self) -> str:
        return f"msg_{self.request_id}"

    def begun(self) -> dict[str, Any]:
        body = self.body
        return {
            "id": f"resp_{self.request_id}",
            "object": "response",
            "created_at": self.created,
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": {},
            "model": self.model,
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": body.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": body.tool_choice,
            "tools": body.tools,
            "top_p": body.top_p,
            "truncation": "auto",
            "usage": None,
        }

    def whole(self, answer: Answer) -> dict[str, Any]:
        is_cut = answer.finish_reason == "length"
        cached = answer.cache["generate"].tokens_reused
        return {
            **self.begun(),
            "status": "incomplete" if is_cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": [self.item(answer.text, "incomplete" if is_cut else "completed")],
            "usage": {
                "input_tokens": answer.prompt_tokens,
                "input_tokens_details": {"cached_tokens": min(cached, answer.prompt_tokens)},
                "output_tokens": answer.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": answer.prompt_tokens + answer.completion_tokens,
            },
            "hyperrag": report_json(answer),
        }

    def item(self, text: str | None, status: str) -> dict[str, Any]:
        return {
            "id": self.item_id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [] if text is None else [part(text)],
        }


def part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


async def _events(context: Context, query: Query, form: Form) -> AsyncGenerator[dict[str, Any]]:
    numbers = count()

    def event(kind: str, **fields: Any) -> dict[str, Any]:
        return {"type": f"response.{kind}", "sequence_number": next(numbers), **fields}

    has_begun, of_part = False, {"item_id": form.item_id, **_PART}
    async with aclosing(context.pipeline.answer(query)) as pieces:
        async for piece in pieces:
            if not has_begun:
                has_begun = True
                yield event("created", response=form.begun())
                yield event("in_progress", response=form.begun())
                yield event("output_item.added", **_PLACE, item=form.item(None, "in_progress"))
                yield event("content_part.added", **of_part, part=part(""))
            if isinstance(piece, Piece):
                yield event("output_text.delta", **of_part, delta=piece.text, logprobs=[])
                continue
            whole = form.whole(piece)
            yield event("output_text.done", **of_part, text=piece.text, logprobs=[])
            yield event("content_part.done", **of_part, part=part(piece.text))
            yield event("output_item.done", **_PLACE, item=whole["output"][0])
            yield event(whole["status"], response=whole)
