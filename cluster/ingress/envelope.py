"""Around every request: its id, admission, one log line, and JSON even for a bug."""

import asyncio
import json
import logging
import re
from time import perf_counter
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.ingress.errors import ApiError, respond
from cluster.ingress.limits import Admission
from cluster.metrics.request import Instruments
from cluster.usage import Usage

_ID = re.compile(r"[!-~]{1,128}")
_log = logging.getLogger("hyperrag.requests")


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
        given = Headers(scope=scope).get("x-request-id")
        valid = given is None or _ID.fullmatch(given)
        state = scope.setdefault("state", {})
        state["request_id"] = given if given and valid else uuid4().hex
        usage = state["usage"] = Usage()

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._echo_id:
                    MutableHeaders(scope=message)["X-Request-Id"] = state["request_id"]
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
        finally:
            seconds = perf_counter() - started
            self._instruments.count(scope["method"], route_of(scope), status, seconds, usage)
            _write_line(scope, status, seconds * 1000)

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


def _write_line(scope: Scope, status: int, milliseconds: float) -> None:
    """No text of users."""
    state: dict[str, Any] = scope["state"]
    line = {
        "request_id": state["request_id"],
        "method": scope["method"],
        "route": route_of(scope),
        "status": status,
        "ms": round(milliseconds, 1),
        "tenant": state.get("tenant"),
    }
    _log.info(json.dumps(line))


def log_to_stderr() -> None:
    """One JSON line per request on this process's stderr, where Ray collects it."""
    for name, form in (("hyperrag.requests", "%(message)s"), ("hyperrag.ingress", None)):
        logger = logging.getLogger(name)
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(form or "%(asctime)s %(levelname)s %(message)s"))
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
