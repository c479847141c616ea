"""Bounds on what comes in: size and time of a body, and how many requests are in progress."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from actors.errors import OverloadedError
from cluster.config import HyperRagConfig
from cluster.deadline import Deadline, Limits
from cluster.ingress.config import IngressConfig
from cluster.ingress.door import UPLOADS
from cluster.ingress.errors import ApiError
from cluster.ingress.pace import Paces

PROBES = ("/health", "/healthz", "/readyz", "/metrics")
"""Paths that are answered however many requests are in progress, and take none of their slots."""


class BodyLimit:
    """Bounds a body: its bytes, counted as they are read because a Content-Length may be absent or
    lie, the pauses between its pieces, and the time in all."""

    def __init__(self, app: ASGIApp, config: IngressConfig) -> None:
        self._app, self._config = app, config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        declared = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        whole = self._whole(scope)
        num_read, is_whole = 0, False

        async def bounded() -> Message:
            nonlocal num_read, is_whole
            if is_whole:  # what comes now is that the client leaves, whenever that is
                return await receive()
            if declared.isdigit() and int(declared) > self._config.max_body_bytes:
                raise self._too_large()
            message = await self._next(receive, whole)
            num_read += len(message.get("body", b""))
            if num_read > self._config.max_body_bytes:
                raise self._too_large()
            is_whole = not message.get("more_body", False)
            return message

        await self._app(scope, bounded, send)

    def _whole(self, scope: Scope) -> Deadline:
        """For all of the body: the request's own."""
        limits = Limits(self._config, scope["state"]["arrived"])
        return limits.ingest() if scope["path"].rstrip("/") == UPLOADS else limits.request()

    async def _next(self, receive: Receive, whole: Deadline) -> Message:
        pause_s, left_s = self._config.body_timeout_s, whole.limit_s - whole.elapsed_s
        try:
            async with asyncio.timeout(min(pause_s, left_s)):
                return await receive()
        except TimeoutError as error:
            said = f"nothing of it came for {pause_s:g} s (ingress.body_timeout_s)"
            if left_s < pause_s:
                said = f"it was not there within {whole.limit_s:g} s ({whole.key})"
            refused = ApiError(408, f"body: {said}", "body")
            refused.headers = {"Connection": "close"}  # the rest of it is not waited for
            raise refused from error

    def _too_large(self) -> ApiError:
        limit = f"at most {self._config.max_body_bytes} bytes are allowed (ingress.max_body_bytes)"
        return ApiError(413, f"body: too large; {limit}", "body")


class Admission:
    """Bounds how many requests are in progress, and lets none begin that would not be done in time.
    Runs on one event loop."""

    def __init__(self, app: ASGIApp, config: HyperRagConfig) -> None:
        self._app, self._config = app, config.ingress
        self._num_requests = 0
        self._paces = Paces(config)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            return await self._app(scope, receive, send)
        if self._num_requests >= self._config.max_queued_requests:
            raise OverloadedError("the ingress")
        self._num_requests += 1
        try:
            with self._paces.taken(scope) as visit:
                await self._app(scope, receive, visit.seen(send))
        finally:
            self._num_requests -= 1
