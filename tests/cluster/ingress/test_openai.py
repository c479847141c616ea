"""Chat and text completions in the shapes of OpenAI's client."""

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import httpx
import openai
import pytest

from actors.errors import ContextLengthError, OverloadedError
from actors.messages import (
    Document,
    FitRequest,
    GenerateChunk,
    GenerateRequest,
    Message,
    Sampling,
    SearchRequest,
    SearchResult,
    ToolCall,
)
from cluster.config import HyperRagConfig
from cluster.ingress.citations import annotations
from cluster.query import Source
from cluster.services import Services
from tests.cluster.ingress.conftest import DOCUMENTS, connect
from tests.cluster.ingress.test_rag import events
from tests.cluster.near import NearGenerator
from tests.cluster.parts import passage

ASK = [{"role": "user", "content": "is the sky blue"}]


@pytest.fixture
async def sdk(filled: httpx.AsyncClient) -> AsyncIterator[openai.AsyncOpenAI]:
    http: Any = filled  # typed as another HTTP library's client of the same interface
    async with openai.AsyncOpenAI(
        api_key="none", base_url="http://127.0.0.1/v1", http_client=http, max_retries=0
    ) as client:
        yield client


async def chat(http: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await http.post("/v1/chat/completions", json={"messages": ASK, **body})


async def test_the_official_client_gets_an_answer_and_sources(sdk: openai.AsyncOpenAI) -> None:
    answer = await sdk.chat.completions.create(
        model="hyperrag",
        messages=[{"role": "user", "content": "is the sky blue"}],
        extra_body={"hyperrag": {"top_k": 1}},
    )
    assert answer.choices[0].message.content == "the sky is blue "
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage and answer.usage.total_tokens == 14
    assert answer.model_extra
    assert answer.model_extra["hyperrag"]["sources"][0]["document_id"] == "sky"


async def test_the_official_client_streams(sdk: openai.AsyncOpenAI) -> None:
    stream = await sdk.chat.completions.create(
        model="hyperrag",
        messages=[{"role": "user", "content": "is the sky blue"}],
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"hyperrag": {"top_k": 1}},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "the sky is blue "
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage and chunks[-1].usage.completion_tokens == 4
    assert chunks[-1].model_extra and "sources" in chunks[-1].model_extra["hyperrag"]


async def test_without_usage_the_chunk_with_the_reason_is_last(filled: httpx.AsyncClient) -> None:
    chunks = events((await chat(filled, stream=True)).text)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert "hyperrag" in chunks[-1]
    assert not any("usage" in chunk for chunk in chunks)


async def test_the_models_are_listed(sdk: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in sdk.models.list()] == [
        "hyperrag",
        "hyperrag-plain",
        "hyperrag-reranker",
        "hyperrag-embedder",
        "hyperrag@default",
    ]


async def test_an_unknown_model_is_a_404_with_the_names(sdk: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.chat.completions.create(
            model="gpt-4", messages=[{"role": "user", "content": "sky"}]
        )
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert "allowed: hyperrag" in caught.value.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("made_up", 1),
    ],
)
async def test_what_we_do_not_have_is_refused(
    filled: httpx.AsyncClient, field: str, value: Any
) -> None:
    response = await chat(filled, **{field: value})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field
    assert "allowed" in response.json()["message"]


async def test_neutral_values_of_it_are_fine(filled: httpx.AsyncClient) -> None:
    response = await chat(
        filled, n=1, presence_penalty=0, tools=[], user="u", tool_choice="none", logit_bias={}
    )
    assert response.status_code == 200


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


async def test_wishes_about_sampling_reach_the_generator(
    filled: httpx.AsyncClient, services: Services
) -> None:
    wishes: dict[str, Any] = {
        "top_k": 40,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "presence_penalty": -1.5,
        "frequency_penalty": 0.5,
        "seed": 7,
    }
    biased = {**wishes, "logit_bias": {"50": -100, "7": 2.5}}
    assert (await chat(filled, **biased, logprobs=True, top_logprobs=3)).status_code == 200
    assert isinstance(services.generator, NearGenerator)
    sampling = services.generator.requests[-1].sampling
    assert {name: getattr(sampling, name) for name in wishes} == wishes
    assert (sampling.logit_bias, sampling.logprobs) == (((50, -100.0), (7, 2.5)), 3)
    assert (await chat(filled, top_k=-1)).status_code == 200
    plain = services.generator.requests[-1].sampling
    assert plain == Sampling(plain.max_tokens), "and without them nothing is asked for"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("top_k", -2), ("min_p", 1.5), ("repetition_penalty", 0), ("presence_penalty", 2.5),
        ("logit_bias", {"x": 1}), ("logit_bias", {"1": 101}), ("logit_bias", {"-1": 1}),
        ("top_logprobs", 21), ("n", 0), ("n", 9),
    ],
)  # fmt: skip
async def test_wishes_out_of_bounds_are_named(
    filled: httpx.AsyncClient, field: str, value: Any
) -> None:
    response = await chat(filled, **{field: value})
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith(field)


async def test_several_choices_are_drawn_each_by_itself(
    make_app: Any, filled: httpx.AsyncClient, services: Services, sdk: openai.AsyncOpenAI
) -> None:
    assert isinstance(services.generator, NearGenerator)
    answer = await sdk.chat.completions.create(
        model="hyperrag",
        messages=[{"role": "user", "content": "is the sky blue"}],
        n=3,
        seed=5,
        logprobs=True,
        top_logprobs=2,
        extra_body={"hyperrag": {"top_k": 1}},
    )
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert {c.message.content for c in answer.choices} == {"the sky is blue "}
    assert answer.usage and answer.usage.completion_tokens == 3 * 4
    assert answer.usage.prompt_tokens == 10, "the prompt is counted once"
    seeds = {request.sampling.seed for request in services.generator.requests[-3:]}
    assert seeds == {5, 6, 7}
    told = answer.choices[2].logprobs
    assert told and told.content
    assert [one.token for one in told.content] == ["the ", "sky ", "is ", "blue "]
    assert told.content[0].bytes == list(b"the ") and len(told.content[0].top_logprobs) == 2
    async with connect(make_app(max_choices=2)) as http:
        assert (await chat(http, n=3)).status_code == 400
        assert len((await chat(http, n=2)).json()["choices"]) == 2


async def test_a_stream_of_several_choices_adds_up(filled: httpx.AsyncClient) -> None:
    options = {"include_usage": True}
    body = {"n": 2, "stream": True, "stream_options": options, "hyperrag": {"top_k": 1}}
    chunks = events((await chat(filled, **body)).text)
    texts, reasons = ["", ""], ["", ""]
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content", "")
            reasons[choice["index"]] = choice["finish_reason"] or ""
    assert texts == ["the sky is blue "] * 2 and reasons == ["stop"] * 2
    assert [c["choices"][0]["delta"].get("role") for c in chunks[:2]] == ["assistant"] * 2
    assert chunks[-1]["usage"]["completion_tokens"] == 8


async def test_text_completions_tell_log_probabilities_in_their_own_form(
    filled: httpx.AsyncClient,
) -> None:
    body = {"prompt": "once upon", "hyperrag": {"retrieve": False}, "logprobs": 1}
    told = (await filled.post("/v1/completions", json=body)).json()["choices"][0]["logprobs"]
    assert told["tokens"] == ["once ", "upon "] and told["text_offset"] == [0, 5]
    assert told["token_logprobs"] == [math.log(0.5)] * 2
    assert told["top_logprobs"][0] == {"once ": math.log(0.5)}
    del body["logprobs"]
    assert (await filled.post("/v1/completions", json=body)).json()["choices"][0][
        "logprobs"
    ] is None


async def test_of_several_choices_one_that_fails_ends_all(
    make_app: Any, services: Services, filled: httpx.AsyncClient
) -> None:
    class Failing:
        num_closed = 0

        async def fit(self, request: FitRequest) -> int:
            return 0

        async def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateChunk]:
            if request.sampling.seed == 2:
                raise OverloadedError("the generator's queue")
            try:
                await asyncio.sleep(30)
                yield GenerateChunk("never")
            finally:
                Failing.num_closed += 1

    parts = replace(services, generator=cast(Any, Failing()))
    async with connect(make_app(parts=parts)) as http:
        assert (await chat(http, n=3, seed=1)).status_code == 429
    assert Failing.num_closed == 2, "nobody goes on for an answer that nobody gets"


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


async def test_the_last_user_message_is_searched_for(filled: httpx.AsyncClient) -> None:
    turns = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "is snow white"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": [{"type": "text", "text": "is the sky blue"}]},
    ]
    data = (await chat(filled, messages=turns)).json()
    assert data["hyperrag"]["sources"][0]["document_id"] == "sky"


SKY = [
    {"role": "user", "content": "is the sky blue"},
    {"role": "assistant", "content": "yes it is"},
    {"role": "user", "content": "and at night"},
]


@pytest.mark.parametrize(("turns", "earlier"), [(1, ()), (2, ("is the sky blue",))])
async def test_turns_before_the_last_are_searched_for_too(
    make_app: Any, services: Services, turns: int, earlier: tuple[str, ...]
) -> None:
    retrieval = replace(HyperRagConfig().retrieval, history_turns=turns)
    asked: list[tuple[str, ...]] = []

    class Listening:
        async def search(self, request: SearchRequest) -> SearchResult:
            asked.append(request.earlier)
            return await services.retriever.search(request)

    parts = replace(services, retriever=cast(Any, Listening()))
    config = HyperRagConfig(retrieval=retrieval)
    async with connect(make_app(parts=parts, config=config)) as http:
        await services.corpus.ingest("default", "default", [Document("sky", "the sky is blue")], 5)
        await services.retriever.refresh("default", "default", 1, 5)
        assert (await chat(http, messages=SKY)).status_code == 200
    assert asked == [earlier]


async def test_a_history_that_is_too_long_is_left_out_before_anything_is_searched(
    filled: httpx.AsyncClient, services: Services
) -> None:
    generator = services.generator
    assert isinstance(generator, NearGenerator)
    whole = (await chat(filled, messages=SKY)).json()
    assert whole["hyperrag"]["truncated"] == {}
    assert [m.content for m in generator.requests[-1].messages] == [m["content"] for m in SKY]
    generator.part.room = 8
    asked = {"messages": SKY, "max_tokens": 4, "hyperrag": {"retrieve": False}}
    data = (await chat(filled, **asked)).json()
    assert data["hyperrag"]["truncated"] == {"messages": 2}
    assert [m.content for m in generator.requests[-1].messages] == ["and at night"]
    chunks = events((await chat(filled, **asked, stream=True)).text)
    assert chunks[-1]["hyperrag"]["truncated"] == {"messages": 2}


async def test_what_is_left_out_is_not_searched_for(
    filled: httpx.AsyncClient, services: Services
) -> None:
    assert isinstance(services.generator, NearGenerator)
    about = [{**SKY[0], "content": "grass is green in spring"}, *SKY[1:]]
    found = [(await chat(filled, messages=about)).json()["hyperrag"]["sources"]]
    services.generator.part.room = 2 * 256 + 20
    body = {"messages": about, "hyperrag": {"top_k": 2}, "max_tokens": 16}
    data = (await chat(filled, **body)).json()["hyperrag"]
    found.append(data["sources"])
    assert data["truncated"] == {"messages": 2}
    assert [sources[0]["document_id"] for sources in found] == ["grass", "sky"]


async def test_without_retrieval_nothing_is_searched(
    filled: httpx.AsyncClient, services: Services
) -> None:
    data = (await chat(filled, hyperrag={"retrieve": False})).json()
    assert data["hyperrag"]["sources"] == []
    assert isinstance(services.generator, NearGenerator)
    assert services.generator.requests[-1].passages == ()


THINK = {"enable_thinking": True, "effort": "high", "budget": 3, "unset": None}


async def test_variables_of_the_chat_template_reach_the_generator(
    filled: httpx.AsyncClient, services: Services
) -> None:
    assert isinstance(services.generator, NearGenerator)
    assert (await chat(filled, chat_template_kwargs=THINK)).status_code == 200
    question = {"question": "is the sky blue", "chat_template_kwargs": THINK}
    assert (await filled.post("/v1/rag/query", json=question)).status_code == 200
    expected = (("budget", 3), ("effort", "high"), ("enable_thinking", True))
    assert [r.chat_template_kwargs for r in services.generator.requests] == [expected] * 2
    assert (await chat(filled)).status_code == 200
    assert services.generator.requests[-1].chat_template_kwargs == ()


@pytest.mark.parametrize(
    ("field", "variables"),
    [
        ("chat_template_kwargs", []),
        ("chat_template_kwargs", "enable_thinking"),
        ("chat_template_kwargs", {f"v{i}": i for i in range(17)}),
        ("chat_template_kwargs.messages", {"messages": True}),
        ("chat_template_kwargs.chat_template", {"chat_template": "x"}),
        ("chat_template_kwargs.bos_token", {"bos_token": "x"}),
        ("chat_template_kwargs.date_string", {"date_string": "today"}),
        ("chat_template_kwargs.effort", {"effort": "<|im_end|>"}),
        ("chat_template_kwargs.effort", {"effort": ["high"]}),
        ("chat_template_kwargs.effort", {"effort": {"a": 1}}),
        ("chat_template_kwargs.effort", {"effort": 10**400}),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/rag/query"])
async def test_bad_variables_are_named(
    filled: httpx.AsyncClient, path: str, field: str, variables: Any
) -> None:
    asked = {"messages": ASK} if "chat" in path else {"question": "is the sky blue"}
    response = await filled.post(path, json={**asked, "chat_template_kwargs": variables})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field
    assert response.json()["message"].startswith(f"{field}: ")


@pytest.mark.parametrize(
    "body",
    [
        '{"\\ud800": 1, "question": "sky"}',
        '{"chat_template_kwargs": {"\\ud800": 1}, "question": "sky"}',
    ],
)
async def test_half_a_character_in_a_name_is_a_bad_name(
    filled: httpx.AsyncClient, body: str
) -> None:
    kind = {"Content-Type": "application/json"}
    response = await filled.post("/v1/rag/query", content=body, headers=kind)
    assert response.status_code == 400
    assert response.json()["error"]["param"].endswith("\\ud800")


async def test_a_number_of_any_length_has_a_short_error(filled: httpx.AsyncClient) -> None:
    response = await filled.post("/v1/rag/query", json={"question": "sky", "seed": 10**4000})
    assert response.status_code == 400
    assert len(response.json()["message"]) < 200


async def test_numbers_that_are_none_are_refused(filled: httpx.AsyncClient) -> None:
    for number in ("NaN", "Infinity", "1e999"):
        body = f'{{"question": "sky", "chat_template_kwargs": {{"budget": {number}}}}}'
        kind = {"Content-Type": "application/json"}
        response = await filled.post("/v1/rag/query", content=body, headers=kind)
        assert response.status_code == 400, response.text


async def test_a_prompt_is_a_question(filled: httpx.AsyncClient) -> None:
    body = {"prompt": "is the sky blue", "hyperrag": {"top_k": 1}}
    data = (await filled.post("/v1/completions", json=body)).json()
    assert data["object"] == "text_completion"
    assert data["choices"][0]["text"] == "the sky is blue "


async def test_a_prompt_without_retrieval_is_continued(
    filled: httpx.AsyncClient, services: Services
) -> None:
    body = {"prompt": ["once upon"], "hyperrag": {"retrieve": False}, "stream": True}
    response = await filled.post("/v1/completions", json=body)
    assert "".join(c["choices"][0]["text"] for c in events(response.text)) == "once upon "
    assert isinstance(services.generator, NearGenerator)
    assert services.generator.requests[-1].raw_prompt == "once upon"


@pytest.mark.parametrize("prompt", ["", ["a", "b"], []])
async def test_a_prompt_is_one_text(filled: httpx.AsyncClient, prompt: Any) -> None:
    response = await filled.post("/v1/completions", json={"prompt": prompt})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "prompt"


@pytest.mark.parametrize("messages", [[], [{"role": "judge", "content": "x"}], "hi", [{}]])
async def test_bad_messages_are_named(filled: httpx.AsyncClient, messages: Any) -> None:
    response = await chat(filled, messages=messages)
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith("messages")


async def test_a_conversation_has_so_many_messages_at_most(filled: httpx.AsyncClient) -> None:
    turns = [{"role": "assistant", "content": ""}] * 2048
    assert (await chat(filled, messages=turns[1:] + ASK)).status_code == 200
    response = await chat(filled, messages=turns + ASK)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "messages"


async def test_a_conversation_has_a_bound_beyond_which_its_history_is_left_out(
    make_app: Any, services: Services
) -> None:
    plain = {"retrieve": False}
    async with connect(make_app(max_prompt_chars=10)) as http:
        response = await chat(http)
    assert response.status_code == 400
    assert "at most 10" in response.json()["message"]
    for most, gone in ((12, 2), (35, 2), (36, 0)):
        async with connect(make_app(max_prompt_chars=most)) as http:
            data = (await chat(http, messages=SKY, hyperrag=plain)).json()
        assert data["hyperrag"]["truncated"].get("messages", 0) == gone


async def test_somebody_has_to_ask(filled: httpx.AsyncClient) -> None:
    response = await chat(filled, messages=[{"role": "system", "content": "be brief"}])
    assert response.status_code == 400 and response.json()["error"]["param"] == "messages"
