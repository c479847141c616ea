"""No field of any request makes a control token, with ten tokenizers, over HTTP."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from actors.engine.config import PromptConfig
from actors.engine.plain_text import PlainText
from actors.engine.prompt import Prompt
from tests.integration.control.families import MADE, control, hostile, tokenizer
from tests.integration.control.serving import FAMILY, Fed, serving

pytestmark = pytest.mark.slow

HARMLESS = "Tell me all of it, to the very end"
Body = dict[str, Any]


@pytest.fixture(scope="module")
def fed() -> Iterator[Fed]:
    fed = Fed()
    with fed.watched():
        yield fed


@pytest.fixture(scope="module")
def url(fed: Fed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("control")) as url:
        yield url


@pytest.fixture(params=MADE)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def http(url: str, family: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers={FAMILY: family}, timeout=60) as client:
        yield client


def chat(text: str, role: str, last: str = "user") -> Body:
    """A conversation with the text in every message of the role; `last` speaks last."""
    roles = ["system", "user", "assistant", "user", "assistant"][: 4 if last == "user" else 5]
    turns = [{"role": r, "content": text if r == role else "Well."} for r in roles]
    return {"messages": turns, "max_tokens": 1, "hyperrag": {"retrieve": False}}


def parts(text: str) -> Body:
    content = [{"type": "text", "text": text}, {"type": "text", "text": text}]
    return {**chat("", ""), "messages": [{"role": "user", "content": content}]}


def named(text: str) -> Body:
    body = chat("", "")
    return {**body, "messages": [{**turn, "name": text} for turn in body["messages"]]}


def developer(text: str) -> Body:
    turns = [{"role": "developer", "content": text}, {"role": "user", "content": "Well?"}]
    return {**chat("", ""), "messages": turns}


CHAT, COMPLETE, RERANK = "/v1/chat/completions", "/v1/completions", "/v1/rerank"
SAID: dict[str, tuple[str, Callable[[str], Body]]] = {
    "system": (CHAT, lambda text: chat(text, "system")),
    "developer": (CHAT, developer),
    "user": (CHAT, lambda text: chat(text, "user")),
    "assistant": (CHAT, lambda text: chat(text, "assistant")),
    "open assistant": (CHAT, lambda text: chat(text, "assistant", last="assistant")),
    "parts": (CHAT, parts),
    "chat question": (
        CHAT,
        lambda text: {"messages": [{"role": "user", "content": text}], "max_tokens": 1},
    ),
    "raw prompt": (
        COMPLETE,
        lambda text: {"prompt": text, "max_tokens": 1, "hyperrag": {"retrieve": False}},
    ),
    "prompt": (COMPLETE, lambda text: {"prompt": text, "max_tokens": 1}),
    "question": ("/v1/rag/query", lambda text: {"question": text, "max_tokens": 1}),
    "candidates' question": ("/v1/rag/candidates", lambda text: {"question": f"{text} again"}),
    "query": (RERANK, lambda text: {"query": f"{text} again", "documents": ["It is so."]}),
    "documents": (RERANK, lambda text: {"query": "What?", "documents": [text, f"Not {text}"]}),
    "document objects": (RERANK, lambda text: {"query": "What?", "documents": [{"text": text}]}),
    "texts": (RERANK, lambda text: {"query": "What?", "texts": [text]}),
}
"""By field: what is in the prompt."""
UNSAID: dict[str, tuple[str, Callable[[str], Body]]] = {
    "name": (CHAT, named),
    "user field": (CHAT, lambda text: {**chat("", ""), "user": text, "metadata": {"a": text}}),
    "stop": (CHAT, lambda text: {**chat("", ""), "stop": [text[:256]]}),
    "title": (
        RERANK,
        lambda text: {"query": "What?", "documents": [{"text": "So.", "title": text}]},
    ),
}
"""What is not."""


def given(http: httpx.Client, fed: Fed, path: str, body: Body) -> list[int]:
    """All tokens that the models were given for a request."""
    fed.take()
    response = http.post(path, json=body)
    assert response.status_code == 200, response.text
    ids = fed.take()
    assert ids
    return ids


def controls(ids: list[int], family: str) -> list[int]:
    return [token for token in ids if token in control(family)]


def letters(text: str) -> str:
    return "".join(text.split())


def spelled(ids: list[int], family: str) -> str:
    return letters(tokenizer(family).decode(ids, skip_special_tokens=False))


def ingest(http: httpx.Client, collection: str, text: str) -> None:
    document = {"id": "doc", "text": text, "metadata": {"title": text, text[:100]: text}}
    response = http.post("/v1/documents", json={"documents": [document], "collection": collection})
    assert response.status_code == 200, response.text


def test_what_a_request_says_is_text(http: httpx.Client, fed: Fed, family: str) -> None:
    ingest(http, "default", "It is so.")
    wrong = []
    for field, (path, body) in {**SAID, **UNSAID}.items():
        text = hostile(family)
        plain = given(http, fed, path, body(HARMLESS))
        ids = given(http, fed, path, body(text))
        if controls(ids, family) != controls(plain, family):
            wrong.append(f"{field}: control tokens")
        if (letters(text) in spelled(ids, family)) != (field in SAID):
            wrong.append(f"{field}: the text")
    assert not wrong


def test_what_a_document_says_is_text(http: httpx.Client, fed: Fed, family: str) -> None:
    ingest(http, f"{family}-plain", HARMLESS)
    ingest(http, f"{family}-hostile", hostile(family))
    asked = {"question": "What is it?", "max_tokens": 1}
    path = "/v1/rag/query"
    plain = given(http, fed, path, {**asked, "collection": f"{family}-plain"})
    ids = given(http, fed, path, {**asked, "collection": f"{family}-hostile"})
    assert controls(ids, family) == controls(plain, family)
    assert spelled(ids, family).count(letters(hostile(family))) == 2, "ranked, and answered from"


def test_no_variable_of_the_template_is_a_control_token(
    http: httpx.Client, fed: Fed, family: str
) -> None:
    for content in control(family).values():
        body = {**chat("", ""), "chat_template_kwargs": {"effort": content}}
        response = http.post(CHAT, json=body)
        assert response.status_code == 400, content
        assert response.json()["error"]["param"] == "chat_template_kwargs.effort"
    assert not fed.take()


def test_a_request_turns_thinking_on(http: httpx.Client, fed: Fed, family: str) -> None:
    """Off for answers, in the models that can."""
    plain = given(http, fed, CHAT, chat("", ""))
    body = {**chat("", ""), "chat_template_kwargs": {"enable_thinking": True}}
    thinking = given(http, fed, CHAT, body)
    can_think = family in ("qwen3", "deepseek", "glm")
    assert (spelled(plain, family) != spelled(thinking, family)) == can_think


def test_these_tokenizers_would_take_text_for_control(family: str) -> None:
    """Each of them finds every control token in text, as it comes."""
    found = tokenizer(family).backend_tokenizer.encode(hostile(family), add_special_tokens=False)
    assert {*controls(found.ids, family)} == control(family).keys()
    plain = PlainText(tokenizer(family).backend_tokenizer.to_str())
    assert not controls(list(plain.encode(hostile(family))), family)
    assert controls(list(Prompt(tokenizer(family), PromptConfig()).prefix), family)
