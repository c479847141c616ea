import json

import pytest

from hyperrag import Answer, Client, Document, HyperRagError, IngestReport, UnreachableError
from tests.hyperrag.conftest import Service

QUERY = "POST /v1/rag/query"


def test_answers_are_typed_and_unset_options_are_left_to_the_service(
    service: Service, answer: dict[str, object]
) -> None:
    service.script.reply(QUERY, answer)
    with Client(service.url, api_key="k") as client:
        got = client.ask("why?", top_n=5, top_k=None)
    assert got.sources[0].document_id == "with"
    assert got.cache["rerank"].tokens_reused == 4000
    (asked,) = service.script.asked
    assert asked.body == {"question": "why?", "top_n": 5}
    assert asked.headers["Authorization"] == "Bearer k"


def test_candidates_are_typed(service: Service, answer: dict[str, object]) -> None:
    found = {name: answer[name] for name in ("id", "sources", "timings_ms", "cache")}
    service.script.reply("POST /v1/rag/candidates", found)
    with Client(service.url) as client:
        got = client.candidates("why?", collection="c", top_n=5)
    assert (got.sources[0].log_likelihood, got.sources[0].cosine) == (-1.2, 0.7)
    assert got.cache["rerank"].dram_hits == 18
    assert service.script.asked[0].body == {"question": "why?", "collection": "c", "top_n": 5}


def test_a_stream_yields_pieces_then_the_whole_answer(
    service: Service, answer: dict[str, object]
) -> None:
    service.script.events(QUERY, {"delta": "It "}, {"delta": "wraps"}, answer, "[DONE]")
    with Client(service.url) as client:
        *pieces, last = client.ask_stream("why?")
    assert pieces == ["It ", "wraps"]
    assert isinstance(last, Answer) and last.finish_reason == "stop"


def test_separators_of_lines_in_a_text_do_not_end_an_event(service: Service) -> None:
    """JSON may contain them as they are, and other services send them so."""
    piece = "one\u2028two\u2029three\u0085four\x0bfive"
    event = json.dumps({"delta": piece}, ensure_ascii=False)
    service.script.events(QUERY, event, "[DONE]")
    with Client(service.url) as client:
        assert list(client.ask_stream("why?")) == [piece]


def test_an_error_event_in_a_stream_is_raised(service: Service) -> None:
    error = {"error": {"message": "replica lost", "code": 503}}
    service.script.events(QUERY, {"delta": "It "}, error, "[DONE]")
    with Client(service.url) as client, pytest.raises(HyperRagError, match="replica lost") as info:
        list(client.ask_stream("why?"))
    assert info.value.status == 503


def test_a_stream_that_breaks_off_is_not_taken_for_an_answer(service: Service) -> None:
    service.script.events(QUERY, {"delta": "It "})
    with Client(service.url) as client, pytest.raises(UnreachableError, match="broke off"):
        list(client.ask_stream("why?"))


def test_errors_carry_status_message_and_field(service: Service) -> None:
    error = {
        "message": "top_k must be 1 or more",
        "type": "invalid",
        "param": "top_k",
        "code": None,
    }
    body = {"error": error, "message": error["message"], "detail": error["message"]}
    service.script.reply(QUERY, body, status=422)
    with Client(service.url) as client, pytest.raises(HyperRagError) as info:
        client.ask("why?", top_k=0)
    assert (info.value.status, info.value.param) == (422, "top_k")
    assert str(info.value) == "top_k must be 1 or more (HTTP 422)"


@pytest.mark.parametrize("body", [b"<html>", b'["a"]', b'{"answer": 1}'])
def test_an_answer_of_another_service_is_an_error_and_not_a_crash(
    service: Service, body: bytes
) -> None:
    service.script.raw(QUERY, body)
    with Client(service.url) as client, pytest.raises(HyperRagError):
        client.ask("why?")


def test_a_plain_text_error_is_reported_with_its_text(service: Service) -> None:
    service.script.raw("GET /v1/status", b"bad gateway", status=502)
    with Client(service.url) as client, pytest.raises(HyperRagError, match="bad gateway"):
        client.status()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "no url", "ftp://x"])
def test_nothing_at_the_url_is_unreachable(url: str) -> None:
    with Client(url, timeout_s=2) as client, pytest.raises(UnreachableError):
        client.status()


def test_ingest_sends_bounded_batches_and_sums_the_reports(service: Service) -> None:
    report = {"version": 1, "added": 64, "updated": 0, "unchanged": 0, "num_passages": 70}
    last = {"version": 2, "added": 0, "updated": 1, "unchanged": 2, "num_passages": 1}
    service.script.reply("POST /v1/documents", report)
    service.script.reply("POST /v1/documents", last)
    seen: list[int] = []
    documents = (Document(str(i), "text", {"n": i}) for i in range(67))
    with Client(service.url) as client:
        total = client.ingest(documents, "c", lambda sent, _: seen.append(sent))
    assert total == IngestReport(2, 64, 1, 2, 71)
    assert seen == [64, 67]
    assert service.script.asked[1].body["collection"] == "c"
    assert service.script.asked[1].body["documents"][0] == {
        "id": "64",
        "text": "text",
        "metadata": {"n": 64},
    }


def test_documents_follows_pages(service: Service) -> None:
    item = {"id": "a", "num_chars": 1, "num_passages": 1, "metadata": {}}
    page = {"version": 1, "total": 2, "documents": [item], "next_after": "a"}
    service.script.reply("GET /v1/documents", page)
    service.script.reply(
        "GET /v1/documents", {**page, "documents": [{**item, "id": "b"}], "next_after": None}
    )
    with Client(service.url) as client:
        assert [found.id for found in client.documents("c")] == ["a", "b"]
    assert service.script.asked[1].path == "/v1/documents?collection=c&after=a"


def test_an_id_with_any_characters_is_one_path_segment(service: Service) -> None:
    service.script.reply("DELETE /v1/documents/a%2F%2E%2E%2F%3Fb", {"version": 1})
    with Client(service.url) as client:
        client.delete("a/../?b")
    assert service.script.asked[0].path == "/v1/documents/a%2F%2E%2E%2F%3Fb"


def test_ready_only_when_everything_is(service: Service) -> None:
    service.script.raw("GET /readyz", b"no such path", status=404)
    service.script.reply("GET /readyz", {"status": "starting"}, status=503)
    service.script.reply("GET /readyz", {"status": "ready"})
    with Client(service.url) as client:
        assert [client.ready() for _ in range(3)] == [False, False, True]
    with Client("http://127.0.0.1:1") as nobody:
        assert not nobody.ready()


def test_rerank_and_models(service: Service) -> None:
    results = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]
    service.script.reply("POST /v1/rerank", {"results": results, "usage": {"total_tokens": 7}})
    service.script.reply("GET /v1/models", {"data": [{"id": "m"}]})
    with Client(service.url) as client:
        ranking = client.rerank("q", ["a", "b"])
        assert client.models() == ["m"]
    assert [ranked.index for ranked in ranking.results] == [1, 0]
    assert ranking.total_tokens == 7
