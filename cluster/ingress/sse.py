"""Server-sent events.

What goes wrong before the first event is a plain HTTP error, as long as that comes within
`ingress.sse_keepalive_s`. After it the headers are out: comments keep the connection alive while
nothing comes, and an error travels as an event.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse

from cluster.ingress.context import Context
from cluster.ingress.errors import note

Event = dict[str, Any]

DONE = "data: [DONE]\n\n"
KEEP_ALIVE = ": keep-alive\n\n"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_ESCAPED = {ord(char): f"\\u{ord(char):04x}" for char in "\u0085\u2028\u2029"}
"""Many clients cut lines with functions for which these end one too."""
_closing: set[asyncio.Task[None]] = set()
"""The event loop itself keeps no task alive."""


async def event_stream(
    events: AsyncGenerator[Event], context: Context, named: bool = False
) -> StreamingResponse:
    """Waits for the first event or the first pause. The response's end, or the client's, closes
    `events`. `named`: the `type` of each is the event's name too."""
    paced = _paced(events, context.config.ingress.sse_keepalive_s)
    try:
        first = await anext(paced)
    except BaseException:
        await paced.aclose()
        raise
    lines = _lines(first, paced, context, named)
    return StreamingResponse(lines, media_type="text/event-stream", headers=_HEADERS)


async def _lines(
    first: Event | None, paced: AsyncGenerator[Event | None], context: Context, named: bool
) -> AsyncIterator[str]:
    async with aclosing(paced):
        yield _text(first, named)
        try:
            async for event in paced:
                yield _text(event, named)
        except Exception as error:  # headers are out: the error travels as an event
            api_error = note(error, context.usage)
            context.usage.broke_off = api_error.status_code
            yield _text({"type": "error", **api_error.body()} if named else api_error.body(), named)
    yield DONE


def _text(event: Event | None, named: bool) -> str:
    if event is None:
        return KEEP_ALIVE
    name = f"event: {event['type']}\n" if named else ""
    return f"{name}data: {json.dumps(event, ensure_ascii=False).translate(_ESCAPED)}\n\n"


async def _paced(events: AsyncGenerator[Event], pause_s: float) -> AsyncGenerator[Event | None]:
    """The events, and None whenever none has come for `pause_s`; its end closes `events`."""
    step: asyncio.Future[Event] | None = None
    try:
        while True:
            step = asyncio.ensure_future(anext(events))
            while not (await asyncio.wait({step}, timeout=pause_s))[0]:
                yield None
            try:
                event = step.result()
            except StopAsyncIteration:
                return
            yield event
    finally:
        # A task of its own: who is cancelled by a cancel scope is cancelled at every wait.
        closing = asyncio.create_task(_close(step, events))
        _closing.add(closing)
        closing.add_done_callback(_closing.discard)
        await asyncio.shield(closing)


async def _close(step: asyncio.Future[Event] | None, events: AsyncGenerator[Event]) -> None:
    if step is not None:
        step.cancel()
        await asyncio.wait({step})
        if not step.cancelled():
            step.exception()  # looked at: whoever left does not want it
    await events.aclose()
