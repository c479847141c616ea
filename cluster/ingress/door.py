"""Who may call, by the headers alone: nothing of a body is read before.

A page in a browser can send requests to any address that its user reaches, and any name can be made
to lead there. Without keys nothing else tells such a page from its user.
"""

from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.ingress.config import IngressConfig
from cluster.ingress.errors import ApiError
from cluster.ingress.keys import Caller

OPEN = ("/health", "/healthz", "/readyz")
"""Paths that need no key: they say nothing but whether the service is there."""
UPLOADS = "/v1/documents"
"""The path that takes files too."""
_SAFE = ("GET", "HEAD", "OPTIONS")


class Keys(Protocol):
    def caller_of(self, authorization: str) -> Caller:
        """Raises ApiError 401."""
        ...


class Door:
    """Lets a request in, or raises ApiError. The request's state then has its `caller`."""

    def __init__(self, app: ASGIApp, config: IngressConfig, keys: Keys) -> None:
        self._app, self._keys = app, keys
        self._hosts, self._origins = config.hosts, config.cors_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._enter(scope, Headers(scope=scope))
        await self._app(scope, receive, send)

    def _enter(self, scope: Scope, headers: Headers) -> None:
        state = scope["state"]
        if headers.get("x-request-id", state["request_id"]) != state["request_id"]:
            message = "X-Request-Id: must be 1 to 128 visible ASCII characters"
            raise ApiError(400, message, "X-Request-Id")
        self._check_host(headers.get("host", ""))
        if scope["method"] not in _SAFE:
            self._check_origin(headers)
        if scope["path"] not in OPEN:
            caller = self._keys.caller_of(headers.get("authorization", ""))
            state["caller"], state["tenant"] = caller, caller.tenant
        _check_kind(scope, headers)

    def _check_host(self, host: str) -> None:
        if self._hosts and _name(host) not in self._hosts:
            message = (
                f"Host: {host[:100]!r} is no name of this service; those that are beside "
                "loopback's are in ingress.allowed_hosts"
            )
            raise ApiError(403, message, "Host", "host_not_allowed")

    def _check_origin(self, headers: Headers) -> None:
        """Browsers name the page's origin, other clients none. Our own pages are at our address."""
        origin = headers.get("origin")
        if origin is None or origin in self._origins or "*" in self._origins:
            return
        if origin.partition("://")[2] != headers.get("host"):  # which need not be a URL
            message = (
                f"Origin: pages of {origin[:100]!r} may not call this service; those that may are "
                "in ingress.cors_origins"
            )
            raise ApiError(403, message, "Origin", "origin_not_allowed")


def _name(host: str) -> str:
    """Without the port, and without the brackets of an IPv6 address."""
    name, _, port = host.rpartition(":")
    bare = name if name and port.isdigit() else host
    return bare.strip("[]").rstrip(".").lower()


def _check_kind(scope: Scope, headers: Headers) -> None:
    """Raises ApiError 415 for a body that is neither JSON nor, where those are taken, files. Any
    page may send text or a form without asking, and JSON only where the origin is allowed."""
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    given = headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    files = scope["path"].rstrip("/") == UPLOADS
    is_json = kind == "application/json" or kind.startswith("application/") and "+json" in kind
    if not is_json and not (files and kind == "multipart/form-data"):
        allowed = "application/json" + (" or multipart/form-data" if files else "")
        message = f"Content-Type: is {given[:100]!r}; allowed: {allowed}"
        raise ApiError(415, message, "Content-Type")
