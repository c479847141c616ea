"""What chat and text completions share: fields that we do not have, and the stream of chunks."""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from fastapi.responses import Response
from pydantic import BaseModel, Field, model_validator
from starlette.responses import JSONResponse

from actors.messages import FinishReason, TokenLogprob
from cluster.ingress.collect import collect
from cluster.ingress.context import Context
from cluster.ingress.render import report_json, usage_json
from cluster.ingress.sampling_fields import SamplingFields
from cluster.ingress.schemas import RetrievalOptions, without_neutral
from cluster.ingress.sse import event_stream
from cluster.query import Answer, Choice, Piece, Query

UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "modalities": (["text"],),
    "suffix": ("",),
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


class OpenAiBody(SamplingFields):
    ignored: ClassVar[frozenset[str] | None] = HARMLESS
    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)
    hyperrag: RetrievalOptions = Field(default_factory=RetrievalOptions)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, data: Any) -> Any:
        return without_neutral(data, UNSUPPORTED)


class Ended(NamedTuple):
    """The end of a choice: further fields of its message, and why it ended."""

    fields: dict[str, Any]
    finish_reason: str


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
    logprobs: Callable[[Sequence[TokenLogprob]], dict[str, Any]]
    ended: Callable[[str, FinishReason, Answer], Ended] = lambda text, reason, answer: Ended(
        {}, reason
    )
    """What is known of a choice at its end."""
    whole_only: bool = False
    """Whether text is of no use before it is whole, and then part of what `ended` says."""


async def respond(
    context: Context, query: Query, body: OpenAiBody, model: str, form: Form
) -> Response:
    if body.stream:
        usage = body.stream_options.include_usage
        return await event_stream(_chunks(context, query, model, form, usage), context)
    answer = await collect(context, query)
    choices = []
    for i, one in enumerate(answer.choices):
        ended = form.ended(one.text, one.finish_reason, answer)
        shown = form.choice(one.text)
        if "message" in shown:
            shown["message"] |= ended.fields
        logprobs = _logprobs(form, query, one.logprobs)
        choices.append(_choice(i, shown, logprobs, ended.finish_reason))
    return JSONResponse(
        {
            **_head(form, query, model, form.whole),
            "choices": choices,
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
    head |= {"usage": None} if include_usage else {}
    unopened = set(range(query.num_choices)) if form.opening else set()
    async with aclosing(context.pipeline.answer(query)) as events:
        async for event in events:
            for index in sorted(unopened):  # before any text, all choices at once
                yield {**head, "choices": [_choice(index, form.opening or {})]}
            unopened.clear()
            if isinstance(event, Piece):
                if form.whole_only:
                    continue
                logprobs = _logprobs(form, query, event.logprobs)
                choice = _choice(event.index, form.delta(event.text), logprobs)
                yield {**head, "choices": [choice]}
                continue
            report = {"hyperrag": report_json(event)}
            *others, last = [
                {**head, "choices": [_last(form, i, one, event)]}
                for i, one in enumerate(event.choices)
            ]
            for other in others:
                yield other
            yield last if include_usage else {**last, **report}
            if include_usage:
                yield {**head, "choices": [], "usage": usage_json(event), **report}


def _last(form: Form, index: int, one: Choice, answer: Answer) -> dict[str, Any]:
    ended = form.ended(one.text, one.finish_reason, answer)
    delta = form.delta("")
    if "delta" in delta:
        delta["delta"] |= ended.fields
    return _choice(index, delta, None, ended.finish_reason)


def _choice(
    index: int,
    delta: dict[str, Any],
    logprobs: dict[str, Any] | None = None,
    finish_reason: str | None = None,
) -> dict[str, Any]:
    return {"index": index, **delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _logprobs(form: Form, query: Query, logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
    """None where nobody asked."""
    return None if query.sampling.logprobs is None else form.logprobs(logprobs)


def _head(form: Form, query: Query, model: str, kind: str) -> dict[str, Any]:
    name = f"{form.prefix}-{query.request_id}"
    return {"id": name, "object": kind, "created": int(time.time()), "model": model}
