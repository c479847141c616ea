import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.corpus_writer import CorpusService
from actors.engine.config import EngineConfig, ModelConfig
from actors.errors import OverloadedError, RequestError
from actors.messages import Document, Passage
from actors.retrieval.config import RetrievalConfig

SENTENCES = [f"Sentence number {i} says a little about the matter." for i in range(60)]


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[CorpusService]:
    config = RetrievalConfig(corpus_uri=str(tmp_path), passage_tokens=32, max_waiting=4)
    service = CorpusService(config, ModelConfig(), EngineConfig())
    yield service
    service.close()


async def all_passages(service: CorpusService, limit: int) -> list[Passage]:
    passages: list[Passage] = []
    after = None
    while True:
        page = await service.passages("t", "c", after, limit)
        passages += page.passages
        if (after := page.next_after) is None:
            assert page.total == len(passages)
            return passages


async def test_documents_in_listed_and_out(service: CorpusService) -> None:
    text = " ".join(SENTENCES)
    result = await service.ingest("t", "c", [Document("b", text), Document("a/1", "Short.")])
    assert (result.version, result.added) == (1, 2)
    page = await service.list_documents("t", "c")
    assert [info.id for info in page.documents] == ["a/1", "b"]
    assert page.documents[1].num_passages == result.num_passages - 1
    for limit in (1, 7, 1000):
        passages = await all_passages(service, limit)
        assert len(passages) == result.num_passages
        assert all(p.num_tokens <= 32 for p in passages)
        assert passages[0].document_id == "a/1"
    only = await service.passages("t", "c", document_ids=["a/1"])
    assert [p.text for p in only.passages] == ["Short."]
    gone = await service.delete("t", "c", ["b", "x"])
    assert gone.deleted == ("b",) and gone.missing == ("x",)
    assert len(gone.removed) == result.num_passages - 1
    assert (await service.collections("t")) == ["c"]


async def test_neighbourhoods_come_in_pages_and_are_recorded(service: CorpusService) -> None:
    documents = [Document(f"d{i}", f"Text {i} of the sea.") for i in range(5)]
    await service.ingest("t", "c", documents)
    first = await service.neighbourhoods("t", "c", None, 3, 2)
    rest = await service.neighbourhoods("t", "c", first.next_after, 3, 2)
    found = [*first.neighbourhoods, *rest.neighbourhoods]
    assert [one.text for one in found] == [document.text for document in documents]
    assert all(len(one.neighbours) == 2 for one in found) and rest.next_after is None
    assert (await service.record("t", "c", found)).version == 2
    nothing = await service.neighbourhoods("t", "none", None, 3, 2)
    assert (nothing.neighbourhoods, nothing.next_after) == ((), None)


async def test_pages_go_on_while_the_corpus_changes(service: CorpusService) -> None:
    await service.ingest("t", "c", [Document(f"d{i}", f"Text {i}.") for i in range(6)])
    page = await service.passages("t", "c", None, 3)
    await service.delete("t", "c", ["d1", "d4"])
    rest = await service.passages("t", "c", page.next_after, 100)
    assert [p.document_id for p in rest.passages] == ["d3", "d5"]


async def test_listing_does_not_wait_for_a_change(service: CorpusService) -> None:
    await service.ingest("t", "c", [Document("a", "Short.")])
    many = [Document(f"d{i}", " ".join(SENTENCES)) for i in range(6)]
    change = asyncio.create_task(service.ingest("t", "c", many))
    await asyncio.sleep(0.05)
    assert (await service.list_documents("t", "c")).total == 1
    assert (await service.status())["changes_waiting"] == 1
    assert not change.done()
    assert (await change).added == 6


async def test_too_many_changes_are_refused(service: CorpusService) -> None:
    changes = [service.ingest("t", "c", [Document(f"d{i}", "Text.")]) for i in range(6)]
    results = await asyncio.gather(*changes, return_exceptions=True)
    assert sum(isinstance(r, OverloadedError) for r in results) == 2
    assert (await service.list_documents("t", "c")).total == 4


@pytest.mark.parametrize("after", ["", "x", "-1/a", "1"])
async def test_position_that_no_page_gave(service: CorpusService, after: str) -> None:
    with pytest.raises(RequestError, match="after"):
        await service.passages("t", "c", after)


async def test_nothing_there(service: CorpusService) -> None:
    assert (await service.passages("t", "c")).passages == ()
    assert (await service.list_documents("t", "c")).version == 0
    assert (await service.delete("t", "c", ["a"])).missing == ("a",)


def test_empty_uri_is_a_configuration_error() -> None:
    with pytest.raises(ValueError, match="corpus_uri is empty"):
        CorpusService(RetrievalConfig(), ModelConfig(), EngineConfig())
