"""Every failure as JSON that three families of clients understand.

`detail` (Jina), `message` (Cohere) and `error: {message, type, param, code}` (OpenAI); a request
with `texts` gets TEI's `{error: str, error_type}` instead of the object.
"""

import logging
import math
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from actors.errors import (
    ActorError,
    ContextLengthError,
    ExpiredError,
    OverloadedError,
    RequestError,
    UnavailableError,
)
from cluster.errors import NotFoundError, ReplicaLostError
from cluster.usage import Usage

_log = logging.getLogger("hyperrag.ingress")

RETRY_AFTER_S = 2.0
CONTEXT_LENGTH = "context_length_exceeded"
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    503: "unavailable_error",
    504: "timeout_error",
}
_CODES = {
    400: "invalid_request",
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    408: "body_timeout",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "overloaded",
    500: "internal_error",
    503: "unavailable",
    504: "timeout",
}
_VALIDATION_CODES = {
    "missing": "missing_required_parameter",
    "unknown_field": "unknown_parameter",
    "unsupported_field": "unsupported_parameter",
}
"""OpenAI's, by the kind of pydantic's error; any other kind is an invalid value."""


class ApiError(HTTPException):
    """A refusal. `param` names the field; the message says what is allowed."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        if retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
        super().__init__(status, message, headers)
        self.message, self.param, self.code = message, param, code

    @property
    def kind(self) -> str:
        default = "server_error" if self.status_code >= 500 else "invalid_request_error"
        return _TYPES.get(self.status_code, default)

    @property
    def error_code(self) -> str:
        return self.code or _CODES.get(self.status_code, self.kind)

    def body(self, tei: bool = False) -> dict[str, Any]:
        error: Any = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.error_code,
        }
        body = {"detail": self.message, "message": self.message}
        if tei:
            return {**body, "error": self.message, "error_type": _tei_type(self.status_code)}
        return {**body, "error": error}


def invalid(param: str, message: str) -> ApiError:
    return ApiError(400, f"{param}: {message}", param, "invalid_value")


def too_long(param: str, message: str) -> ApiError:
    """A prompt of more than can be read."""
    return ApiError(400, f"{param}: {message}", param, CONTEXT_LENGTH)


def as_api_error(error: Exception) -> ApiError:
    """What a client sees of an error; what is not expected is logged and becomes a 500."""
    match error:
        case ApiError():
            return error
        case NotFoundError():
            return ApiError(404, str(error), error.field)
        case ContextLengthError():
            return too_long(error.field, error.message)
        case RequestError():
            return ApiError(400, str(error), error.field, "invalid_value")
        case OverloadedError():
            return ApiError(429, str(error), retry_after_s=error.retry_after_s)
        case ExpiredError():
            return ApiError(504, str(error) or "the request's time is up")
        case UnavailableError() | ReplicaLostError():
            return ApiError(503, str(error), retry_after_s=RETRY_AFTER_S)
        case RequestValidationError():
            return _validation(error)
        case HTTPException():
            return _http(error)
    _log.error("unexpected error", exc_info=error)
    return ApiError(500, "an unexpected error; the service's log has it under the request id")


def note(error: Exception, usage: Usage) -> ApiError:
    """What a client sees of an error, which `usage` is told of."""
    api_error = as_api_error(error)
    usage.error = api_error.error_code
    if isinstance(error, OverloadedError):
        usage.refused_by = error.what.removeprefix("the ")
    return api_error


def respond(request: Request, error: Exception) -> JSONResponse:
    api_error = note(error, request.state.usage)
    tei = getattr(request.state, "tei", False) or _has_texts(error)
    return JSONResponse(api_error.body(tei), api_error.status_code, headers=api_error.headers)


async def _respond(request: Request, error: Exception) -> JSONResponse:
    return respond(request, error)


def install(app: FastAPI) -> None:
    for kind in (HTTPException, RequestValidationError, ActorError, ReplicaLostError, Exception):
        app.add_exception_handler(kind, _respond)


def _has_texts(error: Exception) -> bool:
    body = error.body if isinstance(error, RequestValidationError) else None
    return isinstance(body, dict) and body.get("texts") is not None


def _tei_type(status: int) -> str:
    if status == 429:
        return "Overloaded"
    return "Validation" if status < 500 else "Backend"


def _http(error: HTTPException) -> ApiError:
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        refused = ApiError(405, f"method not allowed here; allowed: {allowed}", "method")
        refused.headers = error.headers
        return refused
    if error.status_code == 404:
        return ApiError(404, "there is no such endpoint; GET /docs lists them", code="no_endpoint")
    return ApiError(error.status_code, str(error.detail))


def _path(loc: Sequence[int | str], body: Any, missing: bool) -> str:
    """The field as a client writes it. Behind it pydantic may name a type that the value is not,
    which shows where the body is known."""
    if body is None:
        return ".".join(map(str, loc))
    path = ""
    for part in loc:
        if isinstance(part, int) and isinstance(body, list) and part < len(body):
            path, body = f"{path}[{part}]", body[part]
        elif isinstance(body, dict) and (part in body or missing):
            path, body = f"{path}.{part}" if path else str(part), body.get(part)
        else:
            break
    return path


def _validation(error: RequestValidationError) -> ApiError:
    first = error.errors()[0]
    kind, context = first["type"], first.get("ctx", {})
    if kind == "json_invalid":
        return ApiError(400, f"body: malformed JSON: {context.get('error', '')}", "body")
    param = context.get("field") or _path(first["loc"][1:], error.body, kind == "missing") or "body"
    value = first.get("input")
    shown = f" (got {str(value)[:32]})" if isinstance(value, (int, float, bool)) else ""
    message = first["msg"].removeprefix("Value error, ")
    code = _VALIDATION_CODES.get(kind, "invalid_value")
    return ApiError(400, f"{param}: {message}{shown}", param, code)
