"""Bounds on what comes in: the size of a body, and how many requests are in progress."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actors.errors import OverloadedError
from cluster.ingress.errors import ApiError

PROBES = ("/healthz", "/readyz", "/metrics")
"""Paths that are answered however many requests are in progress, and take none of their slots."""


class BodyLimit:
    """Counts bytes as they are read: a Content-Length may be absent or lie."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app, self._max_bytes = app, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        declared = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        num_read = 0

        async def counted() -> Message:
            nonlocal num_read
            if declared.isdigit() and int(declared) > self._max_bytes:
                raise self._refusal()
            message = await receive()
            num_read += len(message.get("body", b""))
            if num_read > self._max_bytes:
                raise self._refusal()
            return message

        await self._app(scope, counted, send)

    def _refusal(self) -> ApiError:
        limit = f"at most {self._max_bytes} bytes are allowed (ingress.max_body_bytes)"
        return ApiError(413, f"body: too large; {limit}", "body")


class Admission:
    """Bounds how many requests are in progress. Runs on one event loop."""

    def __init__(self, app: ASGIApp, max_requests: int) -> None:
        self._app, self._max_requests = app, max_requests
        self._num_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            return await self._app(scope, receive, send)
        if self._num_requests >= self._max_requests:
            raise OverloadedError("the ingress")
        self._num_requests += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._num_requests -= 1
