"""What chat and text completions share: fields that we do not have, and the stream of chunks."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ClassVar

from fastapi.responses import Response
from pydantic import BaseModel, Field, model_validator
from starlette.responses import JSONResponse

from cluster.ingress.collect import collect
from cluster.ingress.context import Context
from cluster.ingress.render import report_json, usage_json
from cluster.ingress.schemas import RetrievalOptions, SamplingOptions, without_neutral
from cluster.ingress.sse import event_stream
from cluster.query import Piece, Query

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False, 0),
    "modalities": (["text"],),
    "n": (1,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "top_logprobs": (0,),
    "web_search_options": (),
}
"""Fields without an effect here, and the values that ask for none."""

HARMLESS = frozenset(
    (
        "include_reasoning", "metadata", "parallel_tool_calls", "prediction", "prompt_cache_key",
        "prompt_cache_retention", "reasoning", "reasoning_effort", "safety_identifier",
        "service_tier", "store", "thinking", "user", "verbosity",
    )
)  # fmt: skip
"""Wishes and notes that need no answer of their own: accepted, without an effect."""


class StreamOptions(BaseModel):
    include_usage: bool = False


class OpenAiBody(SamplingOptions):
    ignored: ClassVar[frozenset[str] | None] = HARMLESS
    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)
    hyperrag: RetrievalOptions = Field(default_factory=RetrievalOptions)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, data: Any) -> Any:
        return without_neutral(data, UNSUPPORTED)


@dataclass(frozen=True, slots=True)
class Form:
    """How one endpoint shows its choices."""

    prefix: str
    whole: str
    chunk: str
    choice: Callable[[str], dict[str, Any]]
    delta: Callable[[str], dict[str, Any]]
    opening: dict[str, Any] | None
    """What the first chunk's choice carries, where one comes before any text."""


async def respond(
    context: Context, query: Query, body: OpenAiBody, model: str, form: Form
) -> Response:
    if body.stream:
        usage = body.stream_options.include_usage
        return await event_stream(_chunks(context, query, model, form, usage), context)
    answer = await collect(context, query)
    choice = {"index": 0, **form.choice(answer.text), "logprobs": None}
    return JSONResponse(
        {
            **_head(form, query, model, form.whole),
            "choices": [{**choice, "finish_reason": answer.finish_reason}],
            "usage": usage_json(answer),
            "hyperrag": report_json(answer),
        }
    )


async def _chunks(
    context: Context, query: Query, model: str, form: Form, include_usage: bool
) -> AsyncGenerator[dict[str, Any]]:
    """Chunks of text, one with the finish reason, one with the usage where it was asked for. The
    last has the `hyperrag` object."""
    head = _head(form, query, model, form.chunk)
    opening = form.opening
    async with aclosing(context.pipeline.answer(query)) as events:
        async for event in events:
            if opening is not None:
                yield _chunk(head, opening, None, include_usage)
                opening = None
            if isinstance(event, Piece):
                yield _chunk(head, form.delta(event.text), None, include_usage)
                continue
            report = {"hyperrag": report_json(event)}
            last = _chunk(head, form.delta(""), event.finish_reason, include_usage)
            yield last if include_usage else {**last, **report}
            if include_usage:
                yield {**head, "choices": [], "usage": usage_json(event), **report}


def _chunk(
    head: dict[str, Any], delta: dict[str, Any], finish_reason: str | None, include_usage: bool
) -> dict[str, Any]:
    choice = {"index": 0, **delta, "logprobs": None, "finish_reason": finish_reason}
    return {**head, "choices": [choice], **({"usage": None} if include_usage else {})}


def _head(form: Form, query: Query, model: str, kind: str) -> dict[str, Any]:
    name = f"{form.prefix}-{query.request_id}"
    return {"id": name, "object": kind, "created": int(time.time()), "model": model}
