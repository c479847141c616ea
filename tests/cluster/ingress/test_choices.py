"""Wishes about sampling, several choices, and log-probabilities."""

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import httpx
import openai
import pytest

from actors.errors import OverloadedError
from actors.messages import (
    FitRequest,
    GenerateChunk,
    GenerateRequest,
    Sampling,
)
from cluster.services import Services
from tests.cluster.ingress.conftest import chat, connect
from tests.cluster.ingress.test_rag import events
from tests.cluster.near import NearGenerator


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
