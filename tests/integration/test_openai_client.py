"""The official client, as its users call it."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.integration.conftest import QUESTIONS
from tests.integration.service import Service

pytestmark = pytest.mark.ray

PLAIN = {"hyperrag": {"retrieve": False}}
"""Continue the text itself, without looking for passages."""


@pytest.fixture
def official(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def model(official: openai.OpenAI) -> str:
    """The first model that is listed: the generator."""
    return next(iter(official.models.list())).id


def test_chat_answers_with_usage_sources_and_report(
    official: openai.OpenAI, model: str, facts: str
) -> None:
    done = official.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": QUESTIONS["bridge"]}],
        max_tokens=16,
        temperature=0,
        extra_body={"hyperrag": {"collection": facts}},
    )
    choice = done.choices[0]
    assert choice.message.content and choice.finish_reason in ("stop", "length")
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    extra = (done.model_extra or {})["hyperrag"]
    assert extra["sources"][0]["document_id"] == "bridge"
    assert extra["cache"]["rerank"]["store"] == "used"


def test_a_response_is_the_chats_answer_whole_and_streamed(
    official: openai.OpenAI, facts: str
) -> None:
    asked: dict[str, Any] = {"model": f"hyperrag@{facts}", "input": QUESTIONS["bridge"]}
    whole = official.responses.create(**asked, max_output_tokens=16)
    assert whole.output_text and whole.status in ("completed", "incomplete")
    assert (whole.model_extra or {})["hyperrag"]["sources"][0]["document_id"] == "bridge"
    events = list(official.responses.create(**asked, max_output_tokens=16, stream=True))
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(pieces) == whole.output_text
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")
    messages: Any = [{"role": "user", "content": QUESTIONS["bridge"]}]
    chat = official.chat.completions.create(model=asked["model"], messages=messages, max_tokens=16)
    assert chat.choices[0].message.content == whole.output_text


def test_vectors_come_as_the_official_client_asks_for_them(official: openai.OpenAI) -> None:
    texts = ["The tea is blue.", "Blue is the tea."]
    packed = official.embeddings.create(model="hyperrag-embedder", input=texts)
    plain = official.embeddings.create(
        model="hyperrag-embedder", input=texts, encoding_format="float"
    )
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)


def test_a_chat_stream_adds_up_and_ends_with_a_reason(
    official: openai.OpenAI, model: str, facts: str
) -> None:
    stream = official.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": QUESTIONS["tea"]}],
        max_tokens=16,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"hyperrag": {"collection": facts}},
    )
    text, reasons, usages = "", [], []
    for chunk in stream:
        usages += [chunk.usage] if chunk.usage else []
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
    assert text.strip()
    assert reasons and reasons[-1] in ("stop", "length")
    assert usages and usages[-1].completion_tokens > 0


def test_completions_continue_a_text(official: openai.OpenAI, model: str) -> None:
    done = official.completions.create(
        model=model, prompt="One, two, three,", max_tokens=8, temperature=0, extra_body=PLAIN
    )
    assert done.choices[0].text
    assert done.choices[0].finish_reason in ("stop", "length")


def test_a_stop_string_ends_the_answer_and_is_left_out(official: openai.OpenAI, model: str) -> None:
    prompt = "One, two, three, four,"
    free = official.completions.create(
        model=model, prompt=prompt, max_tokens=12, temperature=0, extra_body=PLAIN
    )
    stop = free.choices[0].text.strip()[1:3]
    assert stop, "the model said too little to cut"
    cut = official.completions.create(
        model=model, prompt=prompt, max_tokens=12, temperature=0, stop=[stop], extra_body=PLAIN
    )
    assert stop not in cut.choices[0].text
    assert free.choices[0].text.startswith(cut.choices[0].text)
    assert cut.choices[0].finish_reason == "stop"


def test_choices_are_drawn_by_wish_and_told_with_log_probabilities(
    official: openai.OpenAI, model: str, facts: str
) -> None:
    def ask(**wishes: Any) -> ChatCompletion:
        done: ChatCompletion = official.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": QUESTIONS["bridge"]}],
            max_tokens=12,
            extra_body={"hyperrag": {"collection": facts}, **wishes.pop("extra", {})},
            **wishes,
        )
        return done

    drawn = ask(n=3, temperature=1.5, seed=11, logprobs=True, top_logprobs=2)
    texts = [choice.message.content for choice in drawn.choices]
    assert len(texts) == 3 and len(set(texts)) > 1
    again = ask(n=3, temperature=1.5, seed=11)
    assert [choice.message.content for choice in again.choices] == texts
    for choice in drawn.choices:
        assert choice.logprobs and choice.logprobs.content
        told = b"".join(bytes(one.bytes or ()) for one in choice.logprobs.content)
        content = choice.message.content or ""
        assert "\ufffd" in content or told.decode() == content
        assert all(len(one.top_logprobs) == 2 for one in choice.logprobs.content)
    greedy = ask(temperature=0).choices[0].message.content
    assert ask(temperature=1.5, extra={"top_k": 1}).choices[0].message.content == greedy
    assert ask(temperature=1.5, extra={"min_p": 1.0}).choices[0].message.content == greedy
    assert (
        ask(temperature=0, extra={"repetition_penalty": 2.0}).choices[0].message.content != greedy
    )


def test_answers_are_json_of_a_schema_and_calls_of_tools_are_parsed(
    official: openai.OpenAI, model: str, facts: str
) -> None:
    form = {"type": "object", "properties": {"year": {"type": "integer", "maximum": 9999}},
            "required": ["year"], "additionalProperties": False}  # fmt: skip
    tool: Any = {"type": "function", "function": {"name": "note_year", "parameters": form}}
    asked: Any = {
        "model": model,
        "messages": [{"role": "user", "content": "When was the Corran bridge built?"}],
        "max_tokens": 48,
        "extra_body": {"hyperrag": {"collection": facts}},
    }
    schema: Any = {"type": "json_schema", "json_schema": {"name": "year", "schema": form}}
    text = official.chat.completions.create(**asked, response_format=schema)
    answer = json.loads(text.choices[0].message.content or "")
    assert text.choices[0].finish_reason == "stop" and set(answer) == {"year"}
    called = official.chat.completions.create(**asked, tools=[tool], tool_choice="required")
    call = (called.choices[0].message.tool_calls or [])[0]
    assert called.choices[0].finish_reason == "tool_calls"
    assert call.type == "function" and call.function.name == "note_year"
    assert set(json.loads(call.function.arguments)) == {"year"}
    turns = [*asked["messages"], called.choices[0].message.model_dump(exclude_none=True)]
    turns.append({"role": "tool", "tool_call_id": call.id, "content": "noted"})
    after = official.chat.completions.create(**{**asked, "messages": turns}, tools=[tool])
    assert after.choices[0].message.content
    annotations = after.choices[0].message.annotations or []
    assert annotations[0].url_citation.title == "bridge"


def test_an_unknown_model_is_the_clients_not_found_error(official: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as info:
        official.chat.completions.create(
            model="no-such-model", messages=[{"role": "user", "content": "Hello"}]
        )
    assert info.value.param == "model"
