"""Around every request: its ids, what is counted and logged, and JSON even for a bug."""

import asyncio
import re
import time
from time import perf_counter
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.ingress.errors import note, respond
from cluster.ingress.logline import write_line
from cluster.ingress.tracing import RESPONSE_HEADER, Trace
from cluster.metrics.request import Instruments
from cluster.usage import Usage

_ID = re.compile(r"[!-~]{1,128}")


class Envelope:
    """The outermost layer. `echo_id`: return the id as a header, unless a proxy does."""

    def __init__(self, app: ASGIApp, instruments: Instruments, echo_id: bool) -> None:
        self._app, self._instruments, self._echo_id = app, instruments, echo_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status, started = 0, perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id")
        valid = given is None or _ID.fullmatch(given)
        state = scope.setdefault("state", {})
        state["arrived"] = time.monotonic()
        state["request_id"] = given if given and valid else uuid4().hex
        trace = state["trace"] = Trace.from_headers(headers.getlist("traceparent"))
        usage = state["usage"] = Usage()

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = MutableHeaders(scope=message)
                answered[RESPONSE_HEADER] = trace.response()
                if self._echo_id:
                    answered["X-Request-Id"] = state["request_id"]
            await send(message)

        try:
            with self._instruments.in_progress.track_inprogress():
                await self._app(scope, receive, tagged)
        except asyncio.CancelledError:
            status = 499  # the client went away
            raise
        finally:
            seconds = perf_counter() - started
            method, route = scope["method"], route_of(scope)
            self._instruments.count(method, route, status, seconds, usage)
            write_line(state, method, route, status, seconds)


class JsonErrors:
    """Answers what nobody has handled with JSON; where the response has begun, notes it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        has_begun, usage = False, scope["state"]["usage"]

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # the process boundary
            if has_begun:
                usage.broke_off = note(error, usage).status_code
            else:
                await respond(Request(scope), error)(scope, receive, send)


def route_of(scope: Scope) -> str | None:
    """The route's pattern, not the path that a client chose; None where no endpoint was reached."""
    return getattr(scope.get("route"), "path", None)
