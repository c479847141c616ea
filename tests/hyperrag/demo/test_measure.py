from typing import Any

import pytest

from hyperrag import Client, HyperRagError
from hyperrag.demo.corpus import QUESTIONS, corpus
from hyperrag.demo.measure import ask_twice
from tests.hyperrag.conftest import Service

QUERY = "POST /v1/rag/query"


def test_every_question_is_asked_cold_before_any_is_asked_again(
    service: Service, answer: dict[str, Any]
) -> None:
    service.script.events(QUERY, {"delta": "It "}, answer, "[DONE]")
    told: list[None] = []
    with Client(service.url) as client:
        asked = ask_twice(client, QUESTIONS[:3], corpus(), lambda: told.append(None))
    texts = [question.text for question in QUESTIONS[:3]]
    assert [request.body["question"] for request in service.script.asked] == texts * 2
    assert len(told) == 6
    assert [one.found for one in asked] == [True, False, False]  # the script's source is `with`
    assert all(one.cold.ttft_ms > 0 and one.same_answer for one in asked)


def test_a_failed_request_fails_the_demo(service: Service) -> None:
    service.script.reply(QUERY, {"error": {"message": "no", "param": None}}, status=503)
    with Client(service.url) as client, pytest.raises(HyperRagError):
        ask_twice(client, QUESTIONS[:1], corpus(), lambda: None)
