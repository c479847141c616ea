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

_ID = re.compile(r"[!-~]{1,128}")
_log = logging.getLogger("hyperrag.requests")


class Envelope:
    """The outermost layer. `echo_id`: return the id as a header, unless a proxy does."""

    def __init__(self, app: ASGIApp, max_requests: int, echo_id: bool) -> None:
        self._app, self._echo_id = app, echo_id
        self._admission = Admission(max_requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        status, started = 0, perf_counter()
        given = Headers(scope=scope).get("x-request-id")
        valid = given is None or _ID.fullmatch(given)
        state = scope.setdefault("state", {})
        state["request_id"] = given if given and valid else uuid4().hex

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._echo_id:
                    MutableHeaders(scope=message)["X-Request-Id"] = state["request_id"]
            await send(message)

        try:
            await self._admitted(scope, receive, tagged, bool(valid))
        except asyncio.CancelledError:
            status = 499  # the client went away
            raise
        except Exception as error:  # the process boundary: what nobody handled
            if status == 0:
                await respond(Request(scope), error)(scope, receive, tagged)
        finally:
            _write_line(scope, status, (perf_counter() - started) * 1000)

    async def _admitted(self, scope: Scope, receive: Receive, send: Send, valid_id: bool) -> None:
        if not valid_id:
            message = "X-Request-Id: must be 1 to 128 visible ASCII characters"
            raise ApiError(400, message, "X-Request-Id")
        self._admission.admit(scope["path"])
        try:
            await self._app(scope, receive, send)
        finally:
            self._admission.leave()


def _write_line(scope: Scope, status: int, milliseconds: float) -> None:
    """No text of users, no path they chose: the route's pattern."""
    state: dict[str, Any] = scope["state"]
    line = {
        "request_id": state["request_id"],
        "method": scope["method"],
        "route": getattr(scope.get("route"), "path", None),
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
