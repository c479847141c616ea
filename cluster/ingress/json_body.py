"""The one reader of JSON bodies, for every endpoint.

A body is UTF-8, with or without a byte order mark, and is sent as it is. Another encoding, of
characters or of the whole, is refused with 415 and a message that says which one it was.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from cluster.ingress.errors import ApiError

M = TypeVar("M", bound=BaseModel)


class JsonRequest(Request):
    async def json(self) -> Any:
        """Raises ApiError."""
        return parse_json(await self.body())


class JsonRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def read_by_us(request: Request) -> Response:
            _check_encoding(request.headers.get("content-encoding", ""))
            return await handle(JsonRequest(request.scope, request.receive))

        return read_by_us


def json_router() -> APIRouter:
    return APIRouter(route_class=JsonRoute)


async def read_body(request: Request, model: type[M]) -> M:
    """For endpoints that take several kinds of bodies, or none. Raises RequestValidationError."""
    try:
        data = await request.body()
    except ClientDisconnect as error:
        raise ApiError(400, "body: the client went away", "body") from error
    body = parse_json(data) if data else {}
    try:
        return model.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_url=False)
        located = [{**e, "loc": ("body", *e["loc"])} for e in found]
        raise RequestValidationError(located, body=body) from None


def parse_json(data: bytes) -> Any:
    """Raises ApiError 415 for another encoding, and 400 for what is no JSON. Halves of characters
    that JSON escapes are left to those who know the field."""
    encoding = json.detect_encoding(data)
    if not encoding.startswith("utf-8"):
        raise _unsupported(f"body: is {encoding.upper()}; JSON has to be UTF-8", "body")
    try:
        text = data.decode("utf-8-sig")
        return json.loads(text, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        reason = f"not UTF-8: byte {data[error.start]:#04x} at offset {error.start}"
    except RecursionError:
        reason = "too many levels"
    except ValueError as error:
        reason = str(error)[:100]
    raise ApiError(400, f"body: malformed JSON: {reason}", "body")


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON's")


def _check_encoding(encoding: str) -> None:
    """Raises ApiError 415. What is compressed could be of any size."""
    if encoding.strip().lower() not in ("", "identity"):
        message = f"Content-Encoding: is {encoding[:100]!r}; send the body as it is"
        raise _unsupported(message, "Content-Encoding")


def _unsupported(message: str, param: str) -> ApiError:
    return ApiError(415, message, param, "unsupported_media_type")
