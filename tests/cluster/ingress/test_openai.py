"""Chat and text completions in the shapes of OpenAI's client."""

from dataclasses import replace
from typing import Any, cast

import httpx
import openai
import pytest

from actors.messages import (
    Document,
    SearchRequest,
    SearchResult,
)
from cluster.config import HyperRagConfig
from cluster.services import Services
from tests.cluster.ingress.conftest import ASK, chat, connect
from tests.cluster.ingress.test_rag import events
from tests.cluster.near import NearGenerator


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
