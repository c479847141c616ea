"""Answers that are JSON, forced calls of tools, and annotations."""

from dataclasses import replace
from typing import Any

import httpx
import pytest

from actors.messages import (
    Message,
)
from cluster.ingress.citations import annotations
from cluster.query import Source
from cluster.services import Services
from tests.cluster.ingress.conftest import DOCUMENTS, chat
from tests.cluster.ingress.test_rag import events
from tests.cluster.near import NearGenerator
from tests.cluster.parts import passage

CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
"""A tool, as front ends and agents send some with every request."""


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        ({"type": "text"}, ""),
        ({"type": "json_object"}, '{"type": "object"}'),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "integer"}}},
            '{"type": "integer"}',
        ),
    ],
)
async def test_the_form_of_the_answer_reaches_the_generator(
    filled: httpx.AsyncClient, services: Services, form: Any, schema: str
) -> None:
    assert (await chat(filled, response_format=form)).status_code == 200
    assert isinstance(services.generator, NearGenerator)
    assert services.generator.requests[-1].sampling.json_schema == schema


NAMED = {"type": "function", "function": {"name": "clock"}}


@pytest.mark.parametrize("choice", ["required", NAMED])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_forced_call_of_a_tool_comes_back_parsed(
    filled: httpx.AsyncClient, services: Services, choice: Any, stream: bool
) -> None:
    response = await chat(filled, tools=[CLOCK], tool_choice=choice, stream=stream)
    assert response.status_code == 200, response.text
    if stream:
        chunks = events(response.text)
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
        assert not any(delta.get("content") for delta in deltas)
        message, reason = deltas[-1], chunks[-1]["choices"][0]["finish_reason"]
    else:
        (one,) = response.json()["choices"]
        message, reason = one["message"], one["finish_reason"]
        assert message["content"] is None
    (call,) = message["tool_calls"]
    assert call["function"] == {"name": "clock", "arguments": '{"zone": "UTC"}'}
    assert call["type"] == "function" and call["id"] and reason == "tool_calls"
    assert isinstance(services.generator, NearGenerator)
    request = services.generator.requests[-1]
    assert request.messages[0].role == "system" and '"clock"' in request.messages[0].content
    assert request.messages[-1] == Message("user", "is the sky blue")


async def test_a_call_that_was_cut_short_is_text(filled: httpx.AsyncClient) -> None:
    body = {"tools": [CLOCK], "tool_choice": "required", "max_tokens": 1}
    (one,) = (await chat(filled, **body)).json()["choices"]
    assert one["finish_reason"] == "length" and "tool_calls" not in one["message"]
    assert one["message"]["content"].startswith('{"name":')


BAD_TOOL = {"type": "function", "function": {"name": "x", "parameters": {"type": "nonsense"}}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "x"}}}},
            "response_format.json_schema.schema",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [CLOCK], "tool_choice": {**NAMED, "function": {"name": "y"}}}, "tool_choice"),
        ({"tools": [BAD_TOOL], "tool_choice": "required"}, "tools[0].function.parameters"),
    ],
)
async def test_forms_that_cannot_be_followed_are_named(
    filled: httpx.AsyncClient, body: Any, param: str
) -> None:
    response = await chat(filled, **body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"].startswith(param)


async def test_sources_are_annotations_too(client: httpx.AsyncClient, services: Services) -> None:
    await client.post("/v1/documents", json={"documents": DOCUMENTS})
    body = {"hyperrag": {"top_k": 1}}
    message = (await chat(client, **body)).json()["choices"][0]["message"]
    (annotation,) = message["annotations"]
    assert annotation["type"] == "url_citation"
    assert annotation["url_citation"] == {
        "start_index": 0,
        "end_index": len(message["content"]),
        "url": "urn:hyperrag:sky",
        "title": "sky",
    }
    last = events((await chat(client, **body, stream=True)).text)[-1]
    assert last["choices"][0]["delta"]["annotations"] == [annotation]
    plain = (await chat(client, hyperrag={"retrieve": False})).json()
    assert "annotations" not in plain["choices"][0]["message"]


def test_a_document_s_own_address_is_cited_once() -> None:
    def source(name: str, **metadata: Any) -> Source:
        found = replace(passage(name, "text"), metadata=metadata)
        return Source(found, 0.5, -1.0, 0.0)

    sources = [
        source("a b", url="https://example.org/a", title="A"),
        source("a b", url="https://example.org/a", title="A"),
        source("c", url="javascript:alert(1)"),
    ]
    told = [one["url_citation"] for one in annotations(sources, "text")]
    assert [(one["url"], one["title"]) for one in told] == [
        ("https://example.org/a", "A"),
        ("urn:hyperrag:c", "c"),
    ]
