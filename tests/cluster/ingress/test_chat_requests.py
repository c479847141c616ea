"""What clients of a chat send beside the question, and questions that are long."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import httpx
import pytest

from actors.errors import ContextLengthError
from actors.messages import (
    FitRequest,
    GenerateChunk,
    GenerateRequest,
    Message,
    ToolCall,
)
from cluster.config import HyperRagConfig
from cluster.services import Services
from tests.cluster.ingress.conftest import ASK, chat, connect
from tests.cluster.near import NearGenerator

CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
"""A tool, as front ends and agents send some with every request."""


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "low", "verbosity": "low", "prompt_cache_retention": "24h"},
        {"store": False, "metadata": {"a": "b"}, "service_tier": "auto", "safety_identifier": "x"},
        {"tools": [CLOCK], "tool_choice": "auto", "parallel_tool_calls": True},
        {"tools": [CLOCK], "tool_choice": "none"},
        {"seed": -1, "prediction": {"type": "content", "content": "x"}},
        {"stream_options": {"include_usage": True, "include_obfuscation": False}},
    ],
)
async def test_what_clients_send_beside_the_question_is_taken(
    filled: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    response = await chat(filled, **fields)
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_more_tokens_than_an_answer_may_have_are_cut_to_that(
    make_app: Any, services: Services, filled: httpx.AsyncClient, field: str
) -> None:
    generator = services.generator
    assert isinstance(generator, NearGenerator)
    config = HyperRagConfig()
    short = replace(config.generator, max_new_tokens=3, default_new_tokens=2)
    async with connect(make_app(config=config.model_copy(update={"generator": short}))) as http:
        cut = (await chat(http, **{field: 4096})).json()
        said = (await chat(http)).json()
    assert (await chat(filled, **{field: 4096})).status_code == 200
    assert (await chat(filled)).status_code == 200
    most = [request.sampling.max_tokens for request in generator.requests[-4:]]
    assert most == [3, 2, config.generator.max_new_tokens, config.generator.default_new_tokens]
    assert config.generator.default_new_tokens == 512
    assert cut["choices"][0]["finish_reason"] == "length"
    assert [a["usage"]["completion_tokens"] for a in (cut, said)] == [3, 2]


LONG = "why " * 3000


@pytest.mark.parametrize(
    ("path", "body", "most"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": LONG}]}, 4000),
        ("/v1/completions", {"prompt": LONG}, 4000),
        ("/v1/rag/query", {"question": LONG}, 4000),
        ("/v1/rag/query", {"question": LONG}, 10**5),
        ("/v1/rag/candidates", {"question": LONG}, 4000),
    ],
)
async def test_a_long_question_is_searched_for_by_an_excerpt_and_answered_whole(
    make_app: Any, services: Services, filled: httpx.AsyncClient, path: str, body: Any, most: int
) -> None:
    async with connect(make_app(max_question_chars=most)) as http:
        response = await http.post(path, json=body)
    assert response.status_code == 200, response.text
    told = response.json().get("hyperrag", response.json())["truncated"]["question"]
    assert told["chars"] == len(LONG) and 0 < told["kept_chars"] <= min(most, 512 * 4 + 8)
    assert isinstance(services.generator, NearGenerator)
    if "candidates" not in path:
        assert services.generator.requests[-1].messages == (Message("user", LONG),)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", {"messages": ASK}, "messages"),
        ("/v1/completions", {"prompt": "is the sky blue"}, "prompt"),
        ("/v1/completions", {"prompt": "x", "hyperrag": {"retrieve": False}}, "prompt"),
        ("/v1/rag/query", {"question": "is the sky blue"}, "question"),
    ],
)
async def test_a_prompt_that_is_too_long_is_told_in_the_clients_words(
    make_app: Any, services: Services, filled: httpx.AsyncClient, path: str, body: Any, param: str
) -> None:
    class Short:
        async def fit(self, request: FitRequest) -> int:
            return 0

        async def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateChunk]:
            field = "prompt" if request.raw_prompt else "messages"
            raise ContextLengthError(field, "prompt has 9 tokens, at most 8 are allowed")
            yield

    parts = replace(services, generator=cast(Any, Short()))
    async with connect(make_app(parts=parts)) as http:
        response = await http.post(path, json=body)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
    assert error["param"] == param and error["message"].startswith(f"{param}: prompt has 9")


async def test_tools_and_their_results_are_turns_of_a_conversation(
    filled: httpx.AsyncClient, services: Services
) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "is the sky blue", "name": "ada"},
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "12:00"}]},
    ]
    response = await chat(filled, messages=turns, tools=[CLOCK])
    assert response.status_code == 200, response.text
    assert response.json()["hyperrag"]["sources"][0]["document_id"] == "sky"
    assert isinstance(services.generator, NearGenerator)
    assert services.generator.requests[-1].messages == (
        Message("user", "is the sky blue"),
        Message("assistant", "", (ToolCall("c1", "clock", "{}"),)),
        Message("tool", "12:00", tool_call_id="c1"),
    )


IMAGE = {"type": "image_url", "image_url": {"url": "data:"}}


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content", None),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content", None),
        ({"messages": [{"role": "judge", "content": "x"}]}, "messages[0].role", None),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
        ({"messages": ASK, "temperature": 3}, "temperature", None),
        ({"messages": ASK, "max_tokens": 0}, "max_tokens", None),
        ({"messages": ASK, "stop": [7]}, "stop", None),
        ({"messages": ASK, "stop": {"a": 1}}, "stop", None),
        ({"messages": ASK, "made_up": 7}, "made_up", "unknown_parameter"),
        ({"messages": ASK, "echo": True}, "echo", "unsupported_parameter"),
        ({}, "messages", "missing_required_parameter"),
    ],
)
async def test_a_bad_value_is_a_400_that_names_the_clients_field(
    filled: httpx.AsyncClient, body: dict[str, Any], param: str, code: str | None
) -> None:
    response = await filled.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["code"]) == (param, code or "invalid_value")
    assert error["type"] == "invalid_request_error"


async def test_the_official_client_calls_a_prompt_that_is_too_long_by_its_name(
    make_app: Any,
) -> None:
    async with connect(make_app(max_prompt_chars=10)) as http:
        error = (await chat(http)).json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
