"""Requests as endpoints know them: HEAD as GET without a body, no slash behind a path."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Lenient:
    """A redirect would do for the slash, but clients turn a POST into a GET to follow one. The id
    of a document that is deleted may end in a slash."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        method = scope["method"]
        if method != "DELETE" and scope["path"].endswith("/"):
            scope["path"] = scope["path"].rstrip("/") or "/"
        if method != "HEAD":
            return await self._app(scope, receive, send)
        scope["method"] = "GET"
        try:
            await self._app(scope, receive, _without_body(send))
        finally:
            scope["method"] = method


def _without_body(send: Send) -> Send:
    async def headers_alone(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return headers_alone
