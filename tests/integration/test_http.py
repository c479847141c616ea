import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import httpx
import pytest

from hyperrag import Answer, Client, Document, HyperRagError
from tests.integration.conftest import FACTS, QUESTIONS

pytestmark = pytest.mark.ray


@pytest.mark.parametrize("topic", QUESTIONS)
def test_the_right_source_comes_first_with_its_span(client: Client, facts: str, topic: str) -> None:
    answer = client.ask(QUESTIONS[topic], collection=facts, max_tokens=8)
    best = answer.sources[0]
    assert best.document_id == topic
    assert FACTS[topic][best.start : best.end] == best.text
    assert answer.answer.strip() and answer.finish_reason in ("stop", "length")
    assert {"search", "rerank", "generate", "ttft", "total"} <= set(answer.timings_ms)
    assert answer.usage["completion_tokens"] > 0


def test_a_warm_question_computes_no_passage_and_answers_the_same(client: Client) -> None:
    texts = [Document(f"d{i}", f"Lodge {i} of the guild keeps {i + 3} lanterns.") for i in range(6)]
    client.ingest(texts, "warmth")
    question = "How many lanterns does lodge 2 keep?"
    cold, warm = (client.ask(question, collection="warmth", max_tokens=8) for _ in range(2))
    assert cold.cache["rerank"].computed == 6
    assert warm.cache["rerank"].computed == 0
    assert warm.cache["rerank"].hits >= 6
    assert warm.cache["rerank"].tokens_reused > cold.cache["rerank"].tokens_reused
    assert warm.answer == cold.answer
    assert [source.document_id for source in warm.sources] == [
        source.document_id for source in cold.sources
    ]


def test_a_stream_adds_up_to_the_answer_without_one(client: Client, facts: str) -> None:
    asked = {"collection": facts, "max_tokens": 24}
    whole = client.ask(QUESTIONS["bridge"], **asked)
    *pieces, last = client.ask_stream(QUESTIONS["bridge"], **asked)
    assert isinstance(last, Answer)
    assert "".join(piece for piece in pieces if isinstance(piece, str)) == last.answer
    assert last.answer == whole.answer


def test_a_stream_has_the_wire_form_of_server_sent_events(http: httpx.Client, facts: str) -> None:
    body = {"question": QUESTIONS["tea"], "collection": facts, "stream": True}
    with http.stream("POST", "/v1/rag/query", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line.startswith("data:")]
    assert lines[-1] == "data: [DONE]"


def test_a_document_with_separators_of_lines_streams(client: Client, http: httpx.Client) -> None:
    text = "The kiln is lit in May.\u2028It cools in June.\u2029It is\u0085round."
    client.ingest([Document("kiln", text)], "kilns")
    asked = {"collection": "kilns", "max_tokens": 4}
    *_, last = client.ask_stream("When is the kiln lit?", **asked)
    assert isinstance(last, Answer) and last.sources[0].text == text
    body = {"question": "When is the kiln lit?", **asked, "stream": True}
    lines = http.post("/v1/rag/query", json=body).text.splitlines()
    assert {line[:6] for line in lines} == {"data: ", ""}


def test_ingest_is_idempotent_and_updates(client: Client) -> None:
    first = client.ingest([Document("a", "The gate is green.")], "gates")
    again = client.ingest([Document("a", "The gate is green.")], "gates")
    other = client.ingest([Document("a", "The gate is yellow.")], "gates")
    assert (first.added, first.updated, first.unchanged) == (1, 0, 0)
    assert (again.added, again.updated, again.unchanged) == (0, 0, 1)
    assert again.version == first.version
    assert (other.added, other.updated, other.unchanged) == (0, 1, 0)
    answer = client.ask("Which colour has the gate?", collection="gates", max_tokens=8)
    assert [source.text for source in answer.sources] == ["The gate is yellow."]


def test_a_deleted_document_is_found_no_more(client: Client) -> None:
    texts = {"a": "The well is deep.", "b": "The well is old."}
    client.ingest([Document(name, text) for name, text in texts.items()], "wells")
    client.delete("a", "wells")
    answer = client.ask("How deep is the well?", collection="wells", max_tokens=8)
    assert {source.document_id for source in answer.sources} == {"b"}
    assert [item.id for item in client.documents("wells")] == ["b"]
    with pytest.raises(HyperRagError) as info:
        client.delete("a", "wells")
    assert info.value.status == 404


def test_documents_deleted_under_running_questions_give_answers_or_clear_errors(
    client: Client,
) -> None:
    documents = [Document(f"d{i}", f"Mill {i} grinds rye on day {i}.") for i in range(8)]
    client.ingest(documents, "mills")
    done = Event()

    def ask() -> list[int | None]:
        statuses: list[int | None] = []
        while not done.is_set():
            try:
                client.ask("Which mill grinds rye?", collection="mills", max_tokens=4)
                statuses.append(200)
            except HyperRagError as error:
                statuses.append(error.status)
        return statuses

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            for document in documents:
                client.delete(document.id, "mills")
        finally:
            done.set()
        statuses = {status for one in asking for status in one.result()}
    assert statuses <= {200, 404}


def test_files_are_uploaded(http: httpx.Client, client: Client) -> None:
    files = [
        ("files", ("note.md", b"# Ferry\n\nThe ferry sails at noon.", "text/markdown")),
        ("files", ("rows.jsonl", b'{"id": "r1", "text": "Tin is soft."}\n', "application/jsonl")),
    ]
    done = http.post("/v1/documents", files=files, data={"collection": "uploads"})
    assert done.status_code == 200, done.text
    assert done.json()["added"] == 2
    assert {item.id for item in client.documents("uploads")} == {"note.md", "r1"}


def test_warm_then_a_first_question_computes_no_passage(client: Client) -> None:
    client.ingest([Document(f"d{i}", f"Tower {i} has {i} bells.") for i in range(3)], "towers")
    *_, last = client.warm("towers")
    assert last["done"] is True and last["num_passages"] == 3
    first = client.ask("How many bells has tower 2?", collection="towers", max_tokens=8)
    assert first.cache["rerank"].computed == 0


def test_status_check_and_models(client: Client, facts: str) -> None:
    assert client.status()
    assert client.check()["ok"] is True
    assert client.models()


@pytest.mark.parametrize(
    "path", ["/rerank", "/v1/rerank", "/v2/rerank", "/v1/v1/rerank", "/v1/v2/rerank"]
)
def test_rerank_has_the_shape_its_clients_need(http: httpx.Client, path: str) -> None:
    documents = ["Whales breathe air.", {"text": "Ida Feld built the bridge."}]
    body = {"query": "Who built the bridge?", "documents": documents, "top_n": None}
    done = http.post(path, json={**body, "max_tokens_per_doc": None, "return_documents": True})
    assert done.status_code == 200, done.text
    first, second = done.json()["results"]
    assert (first["index"], second["index"]) == (1, 0)
    assert 1 >= first["relevance_score"] > second["relevance_score"] >= 0
    assert first["document"]["text"] == "Ida Feld built the bridge."
    assert done.json()["usage"]["total_tokens"] > 0


def test_rerank_of_texts_answers_a_bare_list(http: httpx.Client) -> None:
    body = {"query": "Who built the bridge?", "texts": ["Whales breathe.", "Ida built it."]}
    done = http.post("/rerank", json=body)
    assert [sorted(result) for result in done.json()] == [["index", "score"]] * 2


def test_a_long_document_is_ranked_by_its_best_passage(http: httpx.Client) -> None:
    filler = "The river runs to the sea, past mills and meadows. "
    short, long = filler * 3, filler * 100 + "Ida Feld built the bridge."
    body = {"query": "Who built the bridge?", "documents": [short, long]}
    ranking = http.post("/v1/rerank", json=body).json()
    assert [result["index"] for result in ranking["results"]] == [1, 0]
    assert ranking["hyperrag"]["truncated"] == {}
    cut = http.post("/v1/rerank", json={**body, "max_tokens_per_doc": 20}).json()
    told = cut["hyperrag"]["truncated"]["documents"]
    assert [(one["index"], one["kept_tokens"]) for one in told] == [(0, 20), (1, 20)]
    assert told[1]["tokens"] > 1024
    scores = [result["relevance_score"] for result in cut["results"]]
    assert scores[0] == scores[1], "what tells them apart was cut"


def test_control_tokens_in_a_document_are_counted_as_text(
    http: httpx.Client, client: Client
) -> None:
    client.ingest([Document("a", "The gate is red. " + "<|im_end|>" * 150)], "signs")
    told = ask_chat(http, [("user", "Which colour is the gate?")], "signs")
    assert len(told["sources"]) > 2 and told["truncated"] == {}


def ask_chat(http: httpx.Client, turns: list[tuple[str, str]], collection: str) -> dict[str, Any]:
    """The `hyperrag` object of an answer."""
    messages = [{"role": role, "content": text} for role, text in turns]
    body = {"messages": messages, "max_tokens": 4, "hyperrag": {"collection": collection}}
    done = http.post("/v1/chat/completions", json=body)
    assert done.status_code == 200, done.text
    told: dict[str, Any] = done.json()["hyperrag"]
    assert "truncated" in told
    return told


def test_a_second_question_is_understood_by_the_first(http: httpx.Client, facts: str) -> None:
    first = ("user", "Who built the Corran bridge?")
    turns = [first, ("assistant", "Ida Feld."), ("user", "When was that?")]
    told = ask_chat(http, turns, facts)
    assert told["sources"][0]["document_id"] == "bridge"
    assert told["truncated"] == {}


def test_exchanges_of_a_conversation_are_not_computed_again(http: httpx.Client, facts: str) -> None:
    turns = [("user", "Who built the Corran bridge?"), ("assistant", "It was Ida Feld.")]
    told = [ask_chat(http, [*turns, ("user", "How many arches?")], facts) for _ in range(2)]
    reports = [one["cache"]["generate"] for one in told]
    assert reports[1]["tokens_reused"] > reports[0]["tokens_reused"] > 0


def test_a_history_that_is_too_long_is_left_out_and_said(http: httpx.Client, facts: str) -> None:
    talk = "We spoke of the tides for a long while, and of the wind in the sails. " * 250
    turns = [("user", talk), ("assistant", "Yes.")] * 2
    turns += [("user", "And of the harbour."), ("assistant", "Yes."), ("user", QUESTIONS["bridge"])]
    told = ask_chat(http, turns, facts)
    assert told["truncated"] == {"messages": 4}
    assert "bridge" in {source["document_id"] for source in told["sources"]}


def test_a_long_question_is_searched_for_by_its_ends_and_answered_whole(
    http: httpx.Client, facts: str
) -> None:
    pasted = "The weather was as it often is there in spring, neither cold nor warm. " * 60
    question = f"{pasted}\n{QUESTIONS['bridge']}"
    body = {
        "messages": [{"role": "user", "content": question}],
        "max_tokens": 4096,
        "stop": ["."],
        "hyperrag": {"collection": facts},
    }
    done = http.post(CHAT, json=body)
    assert done.status_code == 200, done.text
    told = done.json()
    assert told["hyperrag"]["sources"][0]["document_id"] == "bridge"
    shortened = told["hyperrag"]["truncated"]["question"]
    assert shortened["chars"] == len(question) > shortened["kept_chars"] > 0
    assert told["usage"]["prompt_tokens"] > 900, "all of the question"
    body["messages"] = [{"role": "user", "content": pasted * 8}]
    refused = http.post(CHAT, json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "context_length_exceeded")
    assert error["param"] == "messages"


QUERY = "/v1/rag/query"
CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Hello"}]
BAD: dict[str, tuple[str, dict[str, Any], set[int], str]] = {
    "empty question": (QUERY, {"question": ""}, {400}, "question"),
    "blank question": (QUERY, {"question": " \n"}, {400}, "question"),
    "no question": (QUERY, {}, {400}, "question"),
    "question of 100,000 tokens": (
        QUERY,
        {"question": "why " * 100_000},
        {400, 413},
        "question",
    ),
    "top_k 0": (QUERY, {"question": "Why?", "top_k": 0}, {400}, "top_k"),
    "top_k huge": (QUERY, {"question": "Why?", "top_k": 10**9}, {400}, "top_k"),
    "top_n huge": (QUERY, {"question": "Why?", "top_n": 10**9}, {400}, "top_n"),
    "top_k text": (QUERY, {"question": "Why?", "top_k": "many"}, {400}, "top_k"),
    "unknown collection": (QUERY, {"question": "Why?", "collection": "none"}, {404}, "collection"),
    "path as collection": (
        QUERY,
        {"question": "Why?", "collection": "../x"},
        {400},
        "collection",
    ),
    "unknown model": (CHAT, {"model": "none", "messages": MESSAGES}, {404}, "model"),
    "no messages": (CHAT, {"model": "hyperrag", "messages": []}, {400}, "messages"),
    "no query": ("/v1/rerank", {"documents": ["a"]}, {400}, "query"),
    "no documents": ("/v1/rerank", {"query": "q", "documents": []}, {400}, "documents"),
    "top_n negative": (
        "/v1/rerank",
        {"query": "q", "documents": ["a"], "top_n": -1},
        {400},
        "top_n",
    ),
    "empty text": ("/v1/documents", {"documents": [{"id": "a", "text": ""}]}, {400}, "text"),
    "duplicate ids": (
        "/v1/documents",
        {"documents": [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}]},
        {400},
        "id",
    ),
    "document too large": (
        "/v1/documents",
        {"documents": [{"id": "a", "text": "word " * 300_000}]},
        {400, 413},
        "text",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_and_the_field_is_named(http: httpx.Client, name: str) -> None:
    path, body, statuses, field = BAD[name]
    done = http.post(path, json=body)
    assert done.status_code in statuses, done.text
    error = done.json()
    assert field in error["error"]["param"]
    assert error["message"] and error["detail"] and error["error"]["message"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.txt", b""),
        ("binary.txt", b"\x00\x01\x02" * 50),
        ("latin.txt", "Straße".encode("latin-1")),
        ("broken.jsonl", b'{"id": "a", "text": \n'),
        ("broken.parquet", b"PAR1 not really"),
        ("picture.png", b"\x89PNG\r\n"),
    ],
)
def test_a_bad_file_is_refused_by_name_and_nothing_is_stored(
    http: httpx.Client, client: Client, name: str, content: bytes
) -> None:
    files = [("files", ("good.txt", b"Good text.")), ("files", (name, content))]
    done = http.post("/v1/documents", files=files, data={"collection": "refused"})
    assert done.status_code in (400, 415, 422), done.text
    assert name in done.json()["message"]
    with pytest.raises(HyperRagError) as info:
        client.ask("Is it good?", collection="refused")
    assert info.value.status == 404


def test_a_body_over_the_limit_is_refused_while_it_is_read(http: httpx.Client) -> None:
    body = b'{"documents": [{"id": "a", "text": "' + b"x" * (100 * 2**20) + b'"}]}'
    try:
        kind = {"Content-Type": "application/json"}
        done = http.post("/v1/documents", content=body, headers=kind)
    except httpx.WriteError:
        return  # the service closed the connection before it had read 100 MB: that is a refusal
    assert done.status_code == 413, done.text


@pytest.mark.parametrize(
    "content", [b"{", b"", b"[1]", b'"text"', b'"\xff\xfe', b'{"question": NaN']
)
def test_malformed_json_is_a_json_error(http: httpx.Client, content: bytes) -> None:
    done = http.post(QUERY, content=content, headers={"Content-Type": "application/json"})
    assert done.status_code in (400, 422)
    assert done.json()["error"]["message"]


def test_models_are_named_by_what_they_do(http: httpx.Client, facts: str) -> None:
    listed = {one["id"]: one["type"] for one in http.get("/v1/models/").json()["data"]}
    assert listed["hyperrag-reranker"] == "rerank" and f"hyperrag@{facts}" in listed
    asked = {"messages": [{"role": "user", "content": QUESTIONS["tea"]}], "max_tokens": 2}
    for model, best in ((f"hyperrag@{facts}", ["tea"]), ("hyperrag-plain", [])):
        answer = http.post("/v1/chat/completions", json={**asked, "model": model}).json()
        assert [s["document_id"] for s in answer["hyperrag"]["sources"][:1]] == best
        assert http.head(f"/v1/models/{model}").status_code == 200
    assert http.head("/health").status_code == http.get("/version").status_code == 200


def test_vectors_are_those_of_the_search(http: httpx.Client, client: Client, facts: str) -> None:
    found = client.candidates(QUESTIONS["tea"], collection=facts).sources[0]
    body = {"input": [QUESTIONS["tea"], FACTS["tea"]], "model": "hyperrag-embedder"}
    asked, passage = (
        one["embedding"] for one in http.post("/v1/embeddings", json=body).json()["data"]
    )
    cosine = sum(a * b for a, b in zip(asked, passage, strict=True))
    assert cosine == pytest.approx(found.cosine, abs=5e-3)


def test_a_prompt_has_the_ids_that_it_is_counted_by(http: httpx.Client) -> None:
    messages = [{"role": "user", "content": "Hello <|im_end|> there"}]
    counted = http.post("/tokenize", json={"messages": messages}).json()["count"]
    body = {"messages": messages, "model": "hyperrag-plain", "max_tokens": 1}
    answer = http.post("/v1/chat/completions", json=body).json()
    assert answer["usage"]["prompt_tokens"] == counted
    ids = http.post("/tokenize", json={"prompt": "Hello there"}).json()
    body = {"prompt": "Hello there", "model": "hyperrag-plain", "max_tokens": 1}
    answer = http.post("/v1/completions", json=body).json()
    assert answer["usage"]["prompt_tokens"] == ids["count"] == len(ids["tokens"])
    assert ids["max_model_len"] > 1024


def test_scores_are_those_of_reranking(http: httpx.Client) -> None:
    texts = ["Whales breathe air.", "Ida Feld built the bridge."]
    query = "Who built the bridge?"
    scored = http.post("/v1/score", json={"text_1": query, "text_2": texts}).json()["data"]
    ranked = http.post("/v1/rerank", json={"query": query, "documents": texts}).json()["results"]
    assert [scored[r["index"]]["score"] for r in ranked] == [r["relevance_score"] for r in ranked]


def test_one_reader_of_json(http: httpx.Client, facts: str) -> None:
    asked = json.dumps({"question": QUESTIONS["tea"], "collection": facts, "max_tokens": 2})
    kind = {"Content-Type": "application/json"}
    assert http.post(QUERY, content=asked.encode("utf-8-sig"), headers=kind).status_code == 200
    done = http.post(QUERY, content=asked.encode("utf-16"), headers=kind)
    assert done.status_code == 415 and "UTF-16" in done.json()["message"]
    packed = {**kind, "Content-Encoding": "gzip"}
    done = http.post(QUERY, content=gzip.compress(asked.encode()), headers=packed)
    assert done.status_code == 415 and "gzip" in done.json()["message"]


def test_what_is_ranked_of_an_object_is_said_by_rank_fields(http: httpx.Client) -> None:
    rows = [
        {"title": "Whales", "body": "Ida Feld built the bridge."},
        {"title": "Who built the bridge: Ida Feld.", "body": "Whales breathe air."},
    ]
    body = {"query": "Who built the bridge?", "documents": rows, "top_k": 1}
    for field, index in (("title", 1), ("body", 0)):
        done = http.post("/v1/rerank", json={**body, "rank_fields": [field]}).json()
        assert [result["index"] for result in done["data"]] == [index]
        assert done["results"][0]["document"] == rows[index]
    assert http.post("/v1/rerank", json={**body, "topn": 1}).status_code == 400


def test_unknown_paths_and_methods_are_json_errors(http: httpx.Client) -> None:
    assert http.get("/v1/nothing").json()["error"]["message"]
    refused = http.put("/v1/documents", json={})
    assert refused.status_code == 405
    assert refused.json()["error"]["message"]


def test_the_request_id_comes_back(http: httpx.Client, facts: str) -> None:
    body = {"question": QUESTIONS["tea"], "collection": facts, "max_tokens": 2}
    done = http.post(QUERY, json=body, headers={"X-Request-ID": "test-17"})
    assert done.headers["x-request-id"] == "test-17"


def test_questions_at_once_get_the_answers_they_get_alone(client: Client, facts: str) -> None:
    alone = {q: client.ask(q, collection=facts, max_tokens=8).answer for q in QUESTIONS.values()}
    with ThreadPoolExecutor(8) as pool:
        questions = [*QUESTIONS.values()] * 3
        together = pool.map(lambda q: client.ask(q, collection=facts, max_tokens=8), questions)
        for question, answer in zip(questions, together, strict=True):
            assert answer.answer == alone[question]
