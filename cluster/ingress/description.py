"""The OpenAPI description: what FastAPI sees in the endpoints, and the answers of the layers around
them. FastAPI alone would name an error that nothing here answers with, and none of the others."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from cluster.ingress.door import OPEN
from cluster.ingress.limits import PROBES

Json = dict[str, Any]

ERRORS = {
    400: "A field, a header or the body cannot be used; `param` names it",
    401: "No valid key",
    403: "Not with this key, from this page, or under this name",
    404: "There is no such model, document or node",
    408: "The body did not come in time",
    413: "The body is too large",
    415: "The body is neither JSON in UTF-8 nor, where those are taken, files",
    429: "Too many requests are in progress; `Retry-After` says when to come again",
    500: "A bug; the service's log has it under the request's id",
    503: "A part of the service is not there; `Retry-After` says when to come again",
    504: "The request's time is up",
}
ERROR: Json = {
    "type": "object",
    "required": ["detail", "message", "error"],
    "properties": {
        "detail": {"type": "string"},
        "message": {"type": "string"},
        "error": {
            "anyOf": [
                {
                    "type": "object",
                    "required": ["message", "type", "param", "code"],
                    "properties": {
                        "message": {"type": "string"},
                        "type": {"type": "string"},
                        "param": {"type": ["string", "null"]},
                        "code": {"type": "string"},
                    },
                },
                {"type": "string", "description": "for a request with `texts`, as TEI has it"},
            ]
        },
        "error_type": {"type": "string", "description": "beside an `error` that is a text"},
    },
}
_COMPONENTS = "#/components/schemas/"
_FASTAPIS = ("HTTPValidationError", "ValidationError")


class DescribedApp(FastAPI):
    def openapi(self) -> Json:
        """Made once."""
        if self.openapi_schema is None:
            described = super().openapi()
            schemas = described.setdefault("components", {}).setdefault("schemas", {})
            for path, operations in described["paths"].items():
                for operation in operations.values():
                    _complete(path, operation, schemas)
            for name in _FASTAPIS:
                schemas.pop(name, None)
            schemas["Error"] = ERROR
        assert self.openapi_schema is not None
        return self.openapi_schema


def request_body(model: type[BaseModel], **others: Json) -> Json:
    """For endpoints that read their body themselves: JSON, and `others` by content type."""
    schema = model.model_json_schema(ref_template=_COMPONENTS + "{model}")
    content = {"application/json": schema, **others}
    media = {kind: {"schema": schema} for kind, schema in content.items()}
    return {"requestBody": {"required": True, "content": media}}


def _complete(path: str, operation: Json, schemas: Json) -> None:
    body = _body_schema(operation, schemas)
    responses = operation["responses"]
    responses.pop("422", None)
    if "stream" in body.get("properties", {}):
        responses["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    names_something = bool(body) or "{" in path
    for status in _statuses(path, bool(body), names_something):
        responses.setdefault(str(status), _error(status))


def _body_schema(operation: Json, schemas: Json) -> Mapping[str, Any]:
    """Of the JSON body, whose own definitions are moved to `schemas`; empty where there is none."""
    content = operation.get("requestBody", {}).get("content", {})
    schema: Json = content.get("application/json", {}).get("schema", {})
    schemas.update(schema.pop("$defs", {}))
    refs = [schema, *schema.get("anyOf", ())]  # any of: the body may also be absent
    ref = next((one["$ref"] for one in refs if "$ref" in one), None)
    found: Json = schemas[ref.removeprefix(_COMPONENTS)] if ref else schema
    return found


def _statuses(path: str, has_body: bool, names_something: bool) -> list[int]:
    """Errors that can meet an operation: of the door, of the limits, of the parts behind."""
    found = [400, 403, 415, 500]
    found += [401] if path not in OPEN else []
    found += [404] if names_something else []
    found += [408, 413] if has_body else []
    found += [429] if path not in PROBES else []
    found += [503, 504] if path != "/healthz" else []
    return sorted(found)


def _error(status: int) -> Json:
    schema = {"$ref": f"{_COMPONENTS}Error"}
    return {"description": ERRORS[status], "content": {"application/json": {"schema": schema}}}
