"""Server-sent events: what goes wrong before the first one is still a plain HTTP error."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse

from cluster.ingress.errors import note
from cluster.usage import Usage

DONE = "data: [DONE]\n\n"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def event_stream(events: AsyncGenerator[dict[str, Any]], usage: Usage) -> StreamingResponse:
    """Waits for the first event; `usage` is told of an error after it. The response's end, or the
    client's, closes `events`."""
    try:
        first = await anext(events)
    except BaseException:
        await events.aclose()
        raise
    lines = _lines(first, events, usage)
    return StreamingResponse(lines, media_type="text/event-stream", headers=_HEADERS)


async def _lines(
    first: dict[str, Any], events: AsyncGenerator[dict[str, Any]], usage: Usage
) -> AsyncIterator[str]:
    async with aclosing(events):
        yield _event(first)
        try:
            async for event in events:
                yield _event(event)
        except Exception as error:  # headers are out: the error travels as an event
            api_error = note(error, usage)
            usage.broke_off = api_error.status_code
            yield _event(api_error.body())
    yield DONE


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
