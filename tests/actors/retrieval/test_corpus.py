from pathlib import Path

import pytest

from actors.errors import RequestError, UnavailableError
from actors.messages import Document
from actors.retrieval.manifest import collection_folder
from tests.actors.retrieval.support import (
    BagOfWords,
    animals,
    found_ids,
    make_reader,
    make_writer,
)


def test_first_ingest_makes_version_one(tmp_path: Path) -> None:
    result = make_writer(tmp_path).ingest("t", "c", animals("cat", "dog"))
    assert (result.version, result.added, result.updated, result.unchanged) == (1, 2, 0, 0)
    assert result.num_passages == 2 and result.replaced == ()
    assert found_ids(make_reader(tmp_path), "cat animal", 1) == ["cat"]


def test_same_documents_again_change_nothing(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.ingest("t", "c", animals("cat", "dog"))
    again = writer.ingest("t", "c", animals("dog", "cat"))
    assert (again.version, again.unchanged, again.num_passages) == (1, 2, 0)


def test_update_replaces_text_and_reports_what_went(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.ingest("t", "c", animals("cat", "dog"))
    result = writer.ingest("t", "c", [Document("cat", "Whales swim."), *animals("dog", "eel")])
    assert (result.version, result.added, result.updated, result.unchanged) == (2, 1, 1, 1)
    assert result.replaced == ("The cat is an animal.",)
    assert found_ids(make_reader(tmp_path), "whales swim", 1) == ["cat"]
    assert sorted(found_ids(make_reader(tmp_path), "animal")) == ["cat", "dog", "eel"]


def test_new_metadata_is_an_update_that_replaces_no_text(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.ingest("t", "c", [Document("a", "Some text.", {"x": 1})])
    result = writer.ingest("t", "c", [Document("a", "Some text.", {"x": 2})])
    assert (result.updated, result.replaced) == (1, ())
    assert writer.list_documents("t", "c").documents[0].metadata == {"x": 2}


def test_text_that_another_document_has_is_not_reported_as_gone(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.ingest("t", "c", [Document("a", "Same text."), Document("b", "Same text.")])
    assert writer.delete("t", "c", ["a"]).removed == ()
    assert writer.delete("t", "c", ["b"]).removed == ("Same text.",)


def test_delete_reports_missing_and_empties(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.ingest("t", "c", animals("cat", "dog"))
    result = writer.delete("t", "c", ["cat", "cow", "cat"])
    assert (result.version, result.deleted, result.missing) == (2, ("cat",), ("cow",))
    assert writer.delete("t", "c", ["cow"]).version == 2
    writer.delete("t", "c", ["dog"])
    assert writer.list_documents("t", "c").total == 0
    assert writer.collections("t") == []
    assert found_ids(make_reader(tmp_path), "cat") == []


def test_nothing_crosses_tenants_or_collections(tmp_path: Path) -> None:
    writer, reader = make_writer(tmp_path), make_reader(tmp_path)
    writer.ingest("t", "c", animals("cat"))
    writer.ingest("t", "d", animals("dog"))
    writer.ingest("u", "c", animals("eel"))
    vector = BagOfWords().embed(["animal"])
    for tenant, collection, expected in (("t", "c", "cat"), ("t", "d", "dog"), ("u", "c", "eel")):
        found = reader.search(tenant, collection, vector, 9).found[0]
        assert [f.passage.document_id for f in found] == [expected]
    assert writer.delete("u", "c", ["cat"]).missing == ("cat",)
    assert writer.collections("t") == ["c", "d"] and writer.collections("v") == []
    assert reader.search("u", "d", vector, 9).version == 0


@pytest.mark.parametrize("name", ["../../etc", "/abs", "a/b", "..", "x" * 500])
def test_names_never_become_paths(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    make_writer(root).ingest(name, name, animals("cat"))
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
    assert all(name not in str(path.relative_to(root)) for path in root.rglob("*"))
    assert (root / collection_folder(name, name)).is_dir()


def test_listing_pages_by_id(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    for batch in (["d", "a"], ["e", "b"], ["c", "f"]):
        writer.ingest("t", "c", animals(*batch))
    writer.delete("t", "c", ["e"])
    ids: list[str] = []
    after = None
    while True:
        page = writer.list_documents("t", "c", after, 2)
        assert page.total == 5
        ids += [info.id for info in page.documents]
        if (after := page.next_after) is None:
            break
    assert ids == ["a", "b", "c", "d", "f"]
    info = writer.list_documents("t", "c", None, 1).documents[0]
    assert (info.num_chars, info.num_passages, info.metadata) == (19, 1, {"name": "a"})


def test_passages_are_spans_of_their_documents(tmp_path: Path) -> None:
    text = "One sentence is here. Another sentence is there. A third one ends it."
    writer = make_writer(tmp_path)
    writer.ingest("t", "c", [Document("a", text), *animals("cat")])
    passages = list(writer.passages("t", "c", ["a", "nothing"]))
    assert [p.ordinal for p in passages] == [0, 1, 2]
    assert all(p.text == text[p.start : p.end] and p.num_tokens <= 40 for p in passages)
    assert len(list(writer.passages("t", "c"))) == 4


def test_restart_keeps_everything(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.ingest("t", "c", animals("cat", "dog"))
    writer.delete("t", "c", ["dog"])
    writer.close()
    writer = make_writer(tmp_path)
    assert writer.ingest("t", "c", animals("cat")).version == 2
    assert writer.ingest("t", "c", animals("dog")).version == 3


def test_many_parts_are_merged_and_nothing_is_lost(tmp_path: Path) -> None:
    writer = make_writer(tmp_path, max_parts=4)
    names = [f"n{i:02}" for i in range(20)]
    for name in names:
        writer.ingest("t", "c", animals(name))
        if name == "n09":
            writer.delete("t", "c", ["n03"])
    snapshot = writer.snapshot("t", "c")
    assert snapshot is not None and len(snapshot.parts) <= 4
    kept = [info.id for info in writer.list_documents("t", "c").documents]
    assert kept == [name for name in names if name != "n03"]
    assert found_ids(make_reader(tmp_path), "n07 animal", 1) == ["n07"]
    folder = tmp_path / collection_folder("t", "c")
    needed = {part.name for part in snapshot.manifest.parts}
    on_disk = {path.name for path in folder.glob("part-*")}
    assert needed <= on_disk and len(list(folder.glob("manifest-*"))) == 4
    assert len(on_disk) <= 4 + 4 * 4


def test_mostly_dead_part_is_rewritten(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.ingest("t", "c", animals("a", "b", "c", "d"))
    writer.delete("t", "c", ["a", "b", "c"])
    snapshot = writer.snapshot("t", "c")
    assert snapshot is not None
    assert [(p.num_documents, p.dead) for p in snapshot.manifest.parts] == [(1, ())]


def test_second_writer_is_refused_until_the_first_closes(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    with pytest.raises(UnavailableError, match="another corpus writer .process .* stop it"):
        make_writer(tmp_path)
    writer.close()
    make_writer(tmp_path).close()


def test_changed_embedder_is_refused_by_readers_until_ingest_embeds_again(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.ingest("t", "c", animals("cat", "dog"))
    writer.delete("t", "c", ["dog"])
    writer.close()
    other = BagOfWords(dim=48, seed=5)
    reader = make_reader(tmp_path, embedder=other)
    with pytest.raises(UnavailableError, match="another model: ingest any"):
        reader.search("t", "c", other.embed(["cat"]), 3)
    result = make_writer(tmp_path, embedder=other).ingest("t", "c", animals("cat"))
    assert (result.version, result.unchanged, result.replaced) == (3, 1, ())
    reader.refresh("t", "c", 3)
    found = reader.search("t", "c", other.embed(["cat"]), 3).found[0]
    assert [f.passage.document_id for f in found] == ["cat"]


def test_changed_passage_length_splits_again(tmp_path: Path) -> None:
    text = "One sentence is here. Another sentence is there."
    writer = make_writer(tmp_path)
    writer.ingest("t", "c", [Document("a", text)])
    writer.close()
    writer = make_writer(tmp_path, passage_tokens=100)
    result = writer.ingest("t", "c", [Document("a", text)])
    assert result.replaced == ("One sentence is here.", "Another sentence is there.")
    assert [p.text for p in writer.passages("t", "c")] == [text]


@pytest.mark.parametrize(
    ("documents", "field"),
    [
        ([], "documents"),
        ([Document("a", "x"), Document("a", "y")], "documents[1].id"),
        ([Document("a", "  ")], "documents[0].text"),
        ([Document("a", "x\0y")], "documents[0].text"),
        ([Document("a", "\ud800")], "documents[0].text"),
        ([Document("", "x")], "documents[0].id"),
        ([Document("a\n", "x")], "documents[0].id"),
        ([Document("a", "x" * 1001)], "documents[0].text"),
        ([Document("a", "x", {"k": {1, 2}})], "documents[0].metadata"),
        ([Document("a", "x", {"k": float("nan")})], "documents[0].metadata"),
        ([Document(str(i), "x") for i in range(11)], "documents"),
    ],
)
def test_bad_batches_name_the_field_and_store_nothing(
    tmp_path: Path, documents: list[Document], field: str
) -> None:
    writer = make_writer(tmp_path, max_document_bytes=1000, max_batch_documents=10)
    with pytest.raises(RequestError) as caught:
        writer.ingest("t", "c", documents)
    assert caught.value.field == field
    assert writer.snapshot("t", "c") is None


def test_bad_limits_and_names(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    for limit in (0, 10_001):
        with pytest.raises(RequestError, match="limit: is"):
            writer.list_documents("t", "c", None, limit)
    with pytest.raises(RequestError, match="collection"):
        writer.delete("t", "", ["a"])


def test_root_that_cannot_be_made_is_a_clear_error() -> None:
    with pytest.raises(UnavailableError, match="corpus"):
        make_writer(Path("/proc/corpus"))
