import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from actors.errors import UnavailableError
from actors.messages import Document
from actors.retrieval.manifest import LATEST, collection_folder
from tests.actors.retrieval.support import (
    BagOfWords,
    animals,
    found_ids,
    make_reader,
    make_writer,
)

QUERY = BagOfWords().embed(["the animal"])


def test_follower_sees_the_next_version_by_itself(tmp_path: Path) -> None:
    writer, reader = make_writer(tmp_path), make_reader(tmp_path)
    assert reader.search("t", "c", QUERY, 3).version == 0
    writer.ingest("t", "c", animals("cat"))
    time.sleep(0.02)
    assert found_ids(reader, "cat") == ["cat"]
    writer.delete("t", "c", ["cat"])
    time.sleep(0.02)
    assert found_ids(reader, "cat") == []


def test_refresh_does_not_wait_for_the_interval(tmp_path: Path) -> None:
    writer, reader = make_writer(tmp_path), make_reader(tmp_path)
    reader._follow_interval_s = 3600.0
    assert reader.search("t", "c", QUERY, 3).version == 0
    version = writer.ingest("t", "c", animals("cat")).version
    assert reader.search("t", "c", QUERY, 3).version == 0
    assert reader.refresh("t", "c", version) == version
    assert found_ids(reader, "cat") == ["cat"]
    assert reader.versions() == {("t", "c"): version}


def test_unchanged_parts_stay_open(tmp_path: Path) -> None:
    writer, reader = make_writer(tmp_path), make_reader(tmp_path)
    writer.ingest("t", "c", animals("cat"))
    before = reader.snapshot("t", "c")
    writer.ingest("t", "c", animals("dog"))
    reader.refresh("t", "c", 2)
    after = reader.snapshot("t", "c")
    assert before and after and before.parts[0].part is after.parts[0].part


def test_a_search_under_way_keeps_its_snapshot_when_all_is_deleted(tmp_path: Path) -> None:
    writer, reader = make_writer(tmp_path), make_reader(tmp_path)
    writer.ingest("t", "c", animals("cat", "dog"))
    snapshot = reader.snapshot("t", "c")
    assert snapshot is not None
    writer.delete("t", "c", ["cat", "dog"])
    shutil.rmtree(tmp_path / collection_folder("t", "c"))
    assert len(snapshot.search(QUERY, 5)[0]) == 2
    time.sleep(0.02)
    assert reader.search("t", "c", QUERY, 5).version == 0


def test_ties_have_one_order(tmp_path: Path) -> None:
    writer, reader = make_writer(tmp_path), make_reader(tmp_path)
    for name in ("d", "a", "c", "b"):
        writer.ingest("t", "c", [Document(name, "Equal text.")])
    for queries in (QUERY, np.repeat(QUERY, 7, axis=0)):
        found = reader.search("t", "c", queries, 4).found[-1]
        assert [f.passage.document_id for f in found] == ["a", "b", "c", "d"]


def test_scores_are_cosines_best_first_and_passages_are_whole(tmp_path: Path) -> None:
    writer, reader = make_writer(tmp_path), make_reader(tmp_path)
    writer.ingest("t", "c", animals("cat", "dog", "eel"))
    query = BagOfWords().embed(["dog animal"])
    found = reader.search("t", "c", query, 2).found[0]
    scores = [f.score for f in found]
    assert len(found) == 2 and scores == sorted(scores, reverse=True)
    passage = found[0].passage
    assert (passage.document_id, passage.ordinal, passage.start) == ("dog", 0, 0)
    assert passage.text == "The dog is an animal." and passage.metadata == {"name": "dog"}
    expected = float((BagOfWords().embed([passage.text]) @ query.T)[0, 0])
    assert found[0].score == pytest.approx(expected, abs=1e-5)


def test_broken_medium_leaves_the_open_version_served(tmp_path: Path) -> None:
    writer, reader = make_writer(tmp_path), make_reader(tmp_path)
    writer.ingest("t", "c", animals("cat"))
    assert found_ids(reader, "cat") == ["cat"]
    folder = tmp_path / collection_folder("t", "c")
    writer.ingest("t", "c", animals("dog"))
    (folder / "manifest-00000002.json").write_bytes(b"{}")
    time.sleep(0.02)
    assert found_ids(reader, "cat") == ["cat"]
    with pytest.raises(UnavailableError, match="is damaged"):
        make_reader(tmp_path).search("t", "c", QUERY, 1)


@pytest.mark.parametrize("name", ["documents.parquet", "passages.parquet", "vectors.faiss"])
def test_flipped_byte_is_found_when_a_part_is_opened(tmp_path: Path, name: str) -> None:
    make_writer(tmp_path).ingest("t", "c", animals("cat"))
    (path,) = (tmp_path / collection_folder("t", "c")).glob(f"part-*/{name}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UnavailableError, match="does not match its checksum"):
        make_reader(tmp_path).search("t", "c", QUERY, 1)


def test_torn_or_lost_pointer_stands_for_the_newest_manifest(tmp_path: Path) -> None:
    make_writer(tmp_path).ingest("t", "c", animals("cat"))
    pointer = tmp_path / collection_folder("t", "c") / LATEST
    pointer.write_bytes(b'{"ver')
    assert found_ids(make_reader(tmp_path), "cat") == ["cat"]
    pointer.unlink()
    assert found_ids(make_reader(tmp_path), "cat") == ["cat"]


def test_searches_see_whole_versions_while_the_corpus_changes(tmp_path: Path) -> None:
    """Every version has the same five ids; a search that mixed versions would miss one."""
    writer, reader = make_writer(tmp_path, max_parts=2), make_reader(tmp_path)
    names = ["a", "b", "c", "d", "e"]
    writer.ingest("t", "c", animals(*names))
    stop = threading.Event()
    problems: list[str] = []

    def search() -> None:
        while not stop.is_set():
            found = reader.search("t", "c", QUERY, 10).found[0]
            suffixes = {f.passage.text.rsplit(".", 1)[-1] for f in found}
            ids = sorted(f.passage.document_id for f in found)
            if ids != names or len(suffixes) != 1:
                problems.append(f"{ids} {suffixes}")

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(15):
        writer.ingest("t", "c", animals(*names, suffix=f" {i}"))
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems
