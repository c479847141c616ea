"""The instruments of `api_fuzz`: each shows what it is there to show."""

import json
import sys
from typing import Any

import pytest

from tests.bench.api_fuzz import growth, run
from tests.bench.api_fuzz.hostile import COUNT, hostile
from tests.bench.api_fuzz.judging import PLAIN_TEXT, SERVER_ERROR, UNDOCUMENTED, Description
from tests.bench.api_fuzz.wire import Answer, request
from tests.bench.harness import CannotRun, Options

ERROR = {
    "detail": "no",
    "message": "no",
    "error": {"message": "no", "type": "server_error", "param": None, "code": "internal_error"},
}
JSON = "application/json"


def described() -> Description:
    named: dict[str, Any] = {
        "200": {"content": {JSON: {}, "text/event-stream": {}}},
        "400": {"content": {JSON: {}}},
        "500": {"content": {JSON: {}}},
    }
    form = {"type": "object", "required": list(ERROR)}
    operation: dict[str, Any] = {"responses": named}
    return Description(
        {
            "paths": {"/a/{b}": {"get": operation}},
            "components": {"schemas": {"Error": form}},
        }
    )


@pytest.mark.parametrize(
    ("method", "path", "answer", "faults"),
    [
        ("GET", "/a/b", Answer(200, JSON, b"{}"), []),
        ("GET", "/a/b/", Answer(200, JSON, b"{}"), []),
        ("GET", "/a/b/c", Answer(400, JSON, json.dumps(ERROR).encode()), []),
        ("GET", "/a/b", Answer(400, JSON, b'{"detail": "no"}'), [PLAIN_TEXT]),
        ("GET", "/a/b", Answer(400, "text/plain", b"no"), [UNDOCUMENTED, PLAIN_TEXT]),
        ("GET", "/a/b", Answer(404, JSON, json.dumps(ERROR).encode()), [UNDOCUMENTED]),
        ("GET", "/a/b", Answer(200, "text/html", b"<p>"), [UNDOCUMENTED]),
        ("GET", "/a/b", Answer(500, JSON, json.dumps(ERROR).encode()), [SERVER_ERROR]),
        ("GET", "/a/b", Answer(0), [SERVER_ERROR, UNDOCUMENTED]),
        ("HEAD", "/a/b", Answer(200, JSON), []),
        ("HEAD", "/a/b", Answer(405, JSON), [UNDOCUMENTED]),
        ("POST", "/a/b", Answer(405, JSON, json.dumps(ERROR).encode()), []),
        ("GET", "/c", Answer(307, "", b""), [UNDOCUMENTED]),
        ("GET", "/a/b", Answer(200, "text/event-stream", b"data: {}\n\ndata: [DONE]\n\n"), []),
        (
            "GET",
            "/a/b",
            Answer(200, "text/event-stream", b"data: " + json.dumps(ERROR).encode() + b"\n\n"),
            [SERVER_ERROR],
        ),
    ],
)
def test_an_answer_counts_in_the_figures_it_belongs_to(
    method: str, path: str, answer: Answer, faults: list[str]
) -> None:
    assert described().faults(method, path, answer) == faults


def test_the_hostile_ones_are_many_and_no_two_alike() -> None:
    sent = [one.data for one in hostile()]
    assert len(sent) == len(set(sent)) == COUNT


def test_a_request_is_as_it_was_asked_for() -> None:
    one = request("a", "POST", "/v1/rerank?a=b", {"host": "evil", "Connection": ""}, b"{}")
    assert one.path == request("b", "GET", "http://evil/v1/rerank").path == "/v1/rerank"
    assert one.data == (
        b"POST /v1/rerank?a=b HTTP/1.1\r\nHost: evil\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )


def test_growth_is_that_of_the_last_tenth_over_the_first() -> None:
    assert growth([200.0] * 10 + [300.0] * 80 + [207.5] * 10) == 7.5


def test_without_schemathesis_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "schemathesis", None)
    with pytest.raises(CannotRun, match=r"pip install -c constraints.txt '\.\[fuzz\]'"):
        run(Options(quick=True, seed=0))
