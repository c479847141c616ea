"""What an answer is worth, by the service's own description."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator

from tests.bench.api_fuzz.wire import Answer

SERVER_ERROR, UNDOCUMENTED, PLAIN_TEXT = "server_errors", "undocumented", "plain_text_errors"
_EVENTS = "text/event-stream"
_REFUSALS = range(400, 500)


class Description:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._paths = [(_pattern(path), found) for path, found in document["paths"].items()]
        error = {"$ref": "#/components/schemas/Error", "components": document["components"]}
        self._error = Draft202012Validator(error)

    def faults(self, method: str, path: str, answer: Answer) -> list[str]:
        """The figures that this answer counts in; a method or path that is not described may be
        refused, and nothing else."""
        kinds = {
            SERVER_ERROR: answer.status == 0 or answer.status >= 500 or self._broke(answer),
            UNDOCUMENTED: not self._is_named(method, path, answer),
            PLAIN_TEXT: method != "HEAD" and not self._is_formed(answer),
        }
        return [kind for kind, is_so in kinds.items() if is_so]

    def _is_named(self, method: str, path: str, answer: Answer) -> bool:
        wanted = "get" if method == "HEAD" else method.lower()
        path = path.rstrip("/") or "/"  # a slash at the end makes no difference
        matching = [ops for pattern, ops in self._paths if pattern.fullmatch(path)]
        found = matching[0] if matching else {}
        if wanted not in found:
            return answer.status in (0, *_REFUSALS)
        named = found[wanted]["responses"].get(str(answer.status))
        has_body = method != "HEAD" and answer.status != 0
        return named is not None and (not has_body or answer.content_type in named["content"])

    def _is_formed(self, answer: Answer) -> bool:
        """Whether every error in it has the documented form."""
        if answer.content_type == _EVENTS:
            return all(self._error.is_valid(event) for event in _events(answer) if _failed(event))
        if answer.status < 400:
            return True
        try:
            return answer.content_type == "application/json" and self._error.is_valid(
                json.loads(answer.body)
            )
        except ValueError:
            return False

    def _broke(self, answer: Answer) -> bool:
        """Whether a stream, whose status is 200, ends with an error of the service."""
        if answer.content_type != _EVENTS:
            return False
        errors = [event["error"] for event in _events(answer) if _failed(event)]
        return any(e.get("type") != "invalid_request_error" for e in errors if isinstance(e, dict))


def _events(answer: Answer) -> Iterator[Any]:
    for line in re.split(r"\r\n|\n|\r", answer.body.decode()):
        data = line.removeprefix("data: ")
        if data != line and data != "[DONE]":
            yield json.loads(data)


def _failed(event: Any) -> bool:
    return isinstance(event, dict) and "error" in event


def _pattern(path: str) -> re.Pattern[str]:
    """A parameter may have slashes: which do is not part of a description."""
    parts = re.split(r"\{[^}]*\}", path)
    return re.compile(".+".join(map(re.escape, parts)), re.DOTALL)
