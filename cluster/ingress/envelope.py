"""Around every request: its ids, admission, what is counted and logged, and JSON even for a
bug."""

import asyncio
import re
from time import perf_counter
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.ingress.errors import ApiError, note, respond
from cluster.ingress.limits import Admission
from cluster.ingress.logline import write_line
from cluster.ingress.tracing import RESPONSE_HEADER, Trace
from cluster.metrics.request import Instruments
from cluster.usage import Usage

_ID = re.compile(r"[!-~]{1,128}")


class Envelope:
    """The outermost layer. `echo_id`: return the id as a header, unless a proxy does."""

    def __init__(
        self, app: ASGIApp, instruments: Instruments, max_requests: int, echo_id: bool
    ) -> None:
        self._app, self._instruments, self._echo_id = app, instruments, echo_id
        self._admission = Admission(max_requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status, started = 0, perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id")
        valid = given is None or _ID.fullmatch(given)
        state = scope.setdefault("state", {})
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
                await self._admitted(scope, receive, tagged, bool(valid))
        except asyncio.CancelledError:
            status = 499  # the client went away
            raise
        except Exception as error:  # the process boundary: what nobody handled
            if status == 0:
                await respond(Request(scope), error)(scope, receive, tagged)
            else:
                usage.broke_off = note(error, usage).status_code
        finally:
            seconds = perf_counter() - started
            method, route = scope["method"], route_of(scope)
            self._instruments.count(method, route, status, seconds, usage)
            write_line(state, method, route, status, seconds)

    async def _admitted(self, scope: Scope, receive: Receive, send: Send, valid_id: bool) -> None:
        if not valid_id:
            message = "X-Request-Id: must be 1 to 128 visible ASCII characters"
            raise ApiError(400, message, "X-Request-Id")
        self._admission.admit(scope["path"])
        try:
            await self._app(scope, receive, send)
        finally:
            self._admission.leave()


def route_of(scope: Scope) -> str | None:
    """The route's pattern, not the path that a client chose; None where no endpoint was reached."""
    return getattr(scope.get("route"), "path", None)
