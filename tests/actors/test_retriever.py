import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors.errors import ExpiredError, OverloadedError, RequestError, UnavailableError
from actors.messages import Document, SearchRequest
from actors.passages import PassageSplitter
from actors.retrieval.config import RetrievalConfig
from actors.retrieval.corpus import CorpusWriter
from actors.retrieval.embedding import Embedder
from actors.retrieval.remote import open_storage
from actors.retriever import Retriever
from actors.texts import EmbedRequest
from tests.actors.retrieval.support import byte_tokenizer, make_writer

TOPICS = {
    "list": "A list is a mutable sequence of items.",
    "nonlocal": "The nonlocal statement binds names of the enclosing scope.",
    "tea": "Green tea is brewed below the boiling point of water.",
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RetrievalConfig:
    root = tmp_path_factory.mktemp("corpus")
    return RetrievalConfig(corpus_uri=str(root), follow_interval_s=0.01, max_waiting=8)


@pytest.fixture(scope="module")
def retriever(config: RetrievalConfig) -> Retriever:
    return Retriever(config)


@pytest.fixture(scope="module")
def writer(config: RetrievalConfig) -> CorpusWriter:
    writer = CorpusWriter(
        config,
        open_storage(config.corpus_uri, "", 1),
        Embedder(config.embedder, 8),
        PassageSplitter(byte_tokenizer(), 200),
    )
    documents = [Document(name, text) for name, text in TOPICS.items()]
    writer.ingest("t", "c", documents)
    writer.ingest("t", "tea", documents[2:])
    return writer


def ask(query: str, collection: str = "c", top_n: int = 3, timeout_s: float = 30) -> SearchRequest:
    return SearchRequest("t", collection, query, top_n, timeout_s)


async def test_finds_what_is_meant(writer: CorpusWriter, retriever: Retriever) -> None:
    result = await retriever.search(ask("How hot should the water for tea be?"))
    assert result.version == 1 and len(result.found) == 3
    assert result.found[0].passage.text == TOPICS["tea"]


async def test_turns_before_the_question_are_searched_for_as_far_as_the_embedder_reads(
    writer: CorpusWriter, retriever: Retriever
) -> None:
    async def first(*earlier: str) -> str:
        result = await retriever.search(replace(ask("How hot should it be?"), earlier=earlier))
        return result.found[0].passage.document_id

    assert await first("Tell me about names of an outer scope.") == "nonlocal"
    assert await first("names of an outer scope. " * 100, "A list, a sequence of items.") == "list"
    assert await first("names of an outer scope. " * 100) == await first() != "nonlocal"


async def test_of_a_long_question_both_ends_are_searched_for(
    writer: CorpusWriter, retriever: Retriever
) -> None:
    pasted = "Lorem ipsum dolor sit amet. " * 200
    for question in ("How hot should water for green tea be?", "What binds names of a scope?"):
        short = await retriever.search(ask(question, top_n=1))
        for long in (question + "\n" + pasted, pasted + "\n" + question):
            found = await retriever.search(ask(long, top_n=1))
            assert found.found[0].passage.text == short.found[0].passage.text


async def test_a_question_about_something_else_is_not_misled_by_the_turn_before_it(
    writer: CorpusWriter, retriever: Retriever
) -> None:
    before = ("Which statement binds names of the enclosing scope?",)
    result = await retriever.search(replace(ask("How hot should tea be?"), earlier=before))
    assert result.found[0].passage.document_id == "tea"


async def test_questions_at_once_share_a_batch(writer: CorpusWriter, retriever: Retriever) -> None:
    before = await retriever.status()
    queries = ["a sequence of items", "names of an outer scope", "hot drink"]
    requests = [ask(q, top_n=1) for q in queries] + [ask("hot drink", "tea"), ask("x", "none")]
    results = await asyncio.gather(*(retriever.search(r) for r in requests))
    ids = [[f.passage.document_id for f in result.found] for result in results]
    assert ids == [["list"], ["nonlocal"], ["tea"], ["tea"], []]
    assert results[-1].version == 0
    after = await retriever.status()
    assert after["searched"] - before["searched"] == 5
    assert after["batches"] - before["batches"] == 1


async def test_refresh_opens_the_new_version(writer: CorpusWriter, retriever: Retriever) -> None:
    version = writer.ingest("t", "fresh", [Document("a", "Some text.")]).version
    assert await retriever.refresh("t", "fresh", version) == version
    with pytest.raises(UnavailableError, match="version 1, 2 cannot be opened yet"):
        await retriever.refresh("t", "fresh", version + 1)


async def test_full_queue_is_overload(writer: CorpusWriter, retriever: Retriever) -> None:
    searches = [retriever.search(ask(f"question {i}")) for i in range(12)]
    results = await asyncio.gather(*searches, return_exceptions=True)
    refused = [r for r in results if isinstance(r, OverloadedError)]
    assert len(refused) == 4
    assert all(len(r.found) == 3 for r in results if not isinstance(r, BaseException))


async def test_time_that_is_up(writer: CorpusWriter, retriever: Retriever) -> None:
    for timeout_s in (0.0, -1.0, 1e-6):
        with pytest.raises(ExpiredError):
            await retriever.search(ask("question", timeout_s=timeout_s))
    assert (await retriever.search(ask("question"))).found


async def test_who_hangs_up_frees_the_place(writer: CorpusWriter, retriever: Retriever) -> None:
    tasks = [asyncio.create_task(retriever.search(ask("question"))) for _ in range(8)]
    await asyncio.sleep(0)
    for task in tasks[:7]:
        task.cancel()
    assert (await tasks[7]).found
    assert (await retriever.status())["waiting"] == 0


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (ask(""), "query"),
        (ask(" \n"), "query"),
        (ask("x" * 70_000), "query"),
        (ask("x\0"), "query"),
        (ask("x", top_n=0), "top_n"),
        (ask("x", top_n=201), "top_n"),
        (ask("x", collection=""), "collection"),
        (replace(ask("x"), tenant="\n"), "tenant"),
    ],
)
async def test_bad_requests_name_the_field(
    retriever: Retriever, request_: SearchRequest, field: str
) -> None:
    with pytest.raises(RequestError) as caught:
        await retriever.search(request_)
    assert caught.value.field == field


async def test_texts_have_the_vectors_that_passages_are_searched_by(
    writer: CorpusWriter, retriever: Retriever
) -> None:
    texts = tuple(TOPICS.values()) * 4  # more than a batch
    result = await retriever.embed(EmbedRequest(texts, 30))
    assert np.array_equal(result.vectors, np.tile(result.vectors[:3], (4, 1)))
    assert np.linalg.norm(result.vectors, axis=1) == pytest.approx(np.ones(12), rel=1e-5)
    found = (await retriever.search(ask("How hot is water for tea?"))).found[0]
    asked = await retriever.embed(EmbedRequest(("How hot is water for tea?",), 30))
    assert float(asked.vectors[0] @ result.vectors[2]) == pytest.approx(found.score, abs=5e-3)


async def test_ids_of_the_embedder_are_texts(retriever: Retriever) -> None:
    text = TOPICS["tea"].lower()
    ids = tuple(retriever._embedder._model.tokenizer(text)["input_ids"])
    both = await retriever.embed(EmbedRequest((text, ids), 30))
    assert both.vectors[0] @ both.vectors[1] == pytest.approx(1, abs=1e-3)
    assert both.num_tokens == 2 * len(ids)
    for wrong in ((10**6,), (-1,), (ids[0],)):
        with pytest.raises(RequestError) as caught:
            await retriever.embed(EmbedRequest((wrong,), 30))
        assert caught.value.field == "input"


async def test_a_text_that_is_too_long_is_cut_and_said(retriever: Retriever) -> None:
    result = await retriever.embed(EmbedRequest(("short", "tea " * 1000), 30))
    [cut] = result.cuts
    assert (cut.index, cut.num_tokens, cut.num_kept) == (1, 1002, 256)
    assert result.num_tokens == 256 + 3


async def test_embedding_ends_with_its_time(retriever: Retriever) -> None:
    with pytest.raises(ExpiredError, match="embedding took longer"):
        await retriever.embed(EmbedRequest(tuple(TOPICS.values()) * 100, 0.01))


async def test_unsearchable_collection_fails_only_its_own_questions(
    tmp_path: Path, retriever: Retriever, writer: CorpusWriter
) -> None:
    config = RetrievalConfig(corpus_uri=str(tmp_path))
    make_writer(tmp_path).ingest("t", "other", [Document("a", "By another model.")])
    mixed = Retriever(config)
    bad, good = await asyncio.gather(
        mixed.search(ask("x", "other")), mixed.search(ask("x", "none")), return_exceptions=True
    )
    assert isinstance(bad, UnavailableError) and not isinstance(good, BaseException)


async def test_health(retriever: Retriever) -> None:
    retriever.check_health()
    retriever._busy_since = 0.0
    try:
        with pytest.raises(UnavailableError, match="restart it"):
            retriever.check_health()
    finally:
        retriever._busy_since = None


def test_empty_uri_is_a_configuration_error() -> None:
    with pytest.raises(ValueError, match="corpus_uri is empty"):
        Retriever(RetrievalConfig())
