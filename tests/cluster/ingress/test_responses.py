"""POST /v1/responses in the shapes of OpenAI's client."""

import json
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import openai
import pytest

from actors.errors import UnavailableError
from cluster.services import Services
from tests.cluster.ingress.conftest import BASE, MakeApp, connect
from tests.cluster.ingress.test_sse import late
from tests.cluster.near import NearGenerator

SKY = "is the sky blue"


@pytest.fixture
async def sdk(filled: httpx.AsyncClient) -> AsyncIterator[openai.AsyncOpenAI]:
    http = cast(Any, filled)
    async with openai.AsyncOpenAI(
        api_key="none", base_url=f"{BASE}/v1", http_client=http, max_retries=0
    ) as client:
        yield client


def asked(services: Services) -> list[tuple[str, str]]:
    assert isinstance(services.generator, NearGenerator)
    return [(m.role, m.content) for m in services.generator.requests[-1].messages]


async def test_the_official_client_gets_an_answer(
    sdk: openai.AsyncOpenAI, services: Services
) -> None:
    one = {"hyperrag": {"top_k": 1}}
    answer = await sdk.responses.create(
        model="hyperrag", input=SKY, instructions="be brief", extra_body=one
    )
    assert answer.output_text == "the sky is blue "
    assert answer.status == "completed" and answer.incomplete_details is None
    assert answer.usage and (answer.usage.input_tokens, answer.usage.total_tokens) == (10, 14)
    assert answer.usage.input_tokens_details.cached_tokens == 7
    assert answer.model_extra and answer.model_extra["hyperrag"]["sources"][0]["text"]
    assert asked(services) == [("system", "be brief"), ("user", SKY)]


async def test_the_official_client_streams(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.responses.create(
        model="hyperrag", input=SKY, stream=True, extra_body={"hyperrag": {"top_k": 1}}
    )
    events = [event async for event in stream]
    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * 4,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event.sequence_number for event in events] == list(range(12))
    pieces = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    last = events[-1]
    assert last.type == "response.completed"
    assert pieces == last.response.output_text == "the sky is blue "


async def test_the_name_of_an_event_is_its_type(filled: httpx.AsyncClient) -> None:
    response = await filled.post("/v1/responses", json={"input": SKY, "stream": True})
    blocks = [block.split("\n") for block in response.text.split("\n\n") if block]
    assert blocks.pop() == ["data: [DONE]"]
    for name, data in blocks:
        assert json.loads(data.removeprefix("data: "))["type"] == name.removeprefix("event: ")


async def test_an_error_after_the_first_pause_is_an_event_that_clients_raise(
    make_app: MakeApp, services: Services
) -> None:
    parts = late(services, 0.3, UnavailableError("no model"))
    async with (
        connect(make_app(parts=parts, sse_keepalive_s=0.1)) as http,
        openai.AsyncOpenAI(
            api_key="none", base_url=f"{BASE}/v1", http_client=cast(Any, http), max_retries=0
        ) as sdk,
    ):
        stream = await sdk.responses.create(model="hyperrag-plain", input="x", stream=True)
        with pytest.raises(openai.APIError, match="no model"):
            [event async for event in stream]


async def test_an_error_event_has_its_type(make_app: MakeApp, services: Services) -> None:
    parts = late(services, 0.3, UnavailableError("no model"))
    body = {"model": "hyperrag-plain", "input": "x", "stream": True}
    async with connect(make_app(parts=parts, sse_keepalive_s=0.1)) as http:
        text = (await http.post("/v1/responses", json=body)).text
    assert 'event: error\ndata: {"type": "error", ' in text


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_is_cut_is_incomplete(sdk: openai.AsyncOpenAI, stream: bool) -> None:
    answer: Any = await sdk.responses.create(
        model="hyperrag", input=SKY, max_output_tokens=2, stream=stream
    )
    if stream:
        answer = [event async for event in answer][-1].response
    assert answer.status == answer.output[0].status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert len(answer.output_text.split()) == 2


async def test_a_conversation_with_calls_and_thoughts(
    filled: httpx.AsyncClient, services: Services
) -> None:
    items = [
        {"role": "developer", "content": "be brief"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "snow"}]},
        {"type": "reasoning", "id": "r", "summary": []},
        {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "white", "annotations": []}],
        },
        {"role": "user", "content": SKY},
    ]
    tools = [{"type": "function", "name": "look", "parameters": {}}]
    body = {"input": items, "tools": tools, "store": True, "include": [], "reasoning": {}}
    data = (await filled.post("/v1/responses", json=body)).json()
    assert data["store"] is False and data["tools"] == tools
    assert data["hyperrag"]["sources"][0]["document_id"] == "sky"
    expected = [("system", "be brief"), ("user", "snow"), ("assistant", "white"), ("user", SKY)]
    assert asked(services) == expected
    calls = [
        {"role": "user", "content": SKY},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "up"},
    ]
    response = await filled.post("/v1/responses", json={"input": calls})
    assert response.status_code == 200, response.text
    assert asked(services)[-1] == ("tool", "up")


async def test_models_choose_retrieval(filled: httpx.AsyncClient) -> None:
    data = (
        await filled.post("/v1/responses", json={"input": SKY, "model": "hyperrag-plain"})
    ).json()
    assert data["hyperrag"]["sources"] == [] and data["model"] == "hyperrag-plain"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"content": "x"}]}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input"),
        ({"input": [{"role": "system", "content": "x"}]}, "input"),
        ({"input": "x\0"}, "input"),
        ({"input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": "x", "background": True}, "background"),
        ({"input": "x", "text": {"format": {"type": "json_object"}}}, "text"),
        ({"input": "x", "temperature": 3}, "temperature"),
        ({"input": "x", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "x", "tool_choice": "required"}, "tool_choice"),
        ({"input": "x", "made_up": 1}, "made_up"),
    ],
)
async def test_what_is_wrong_is_named(
    filled: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    response = await filled.post("/v1/responses", json=body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"].startswith(param)
