import pytest

from actors.retrieval.manifest import Manifest, PartEntry, collection_folder, decode, encode
from actors.retrieval.storage import FileEntry

PART = PartEntry("part-1", 3, 9, {"documents.parquet": FileEntry(10, 7)}, (0, 2))
MANIFEST = Manifest("t", "é", 7, "embedder", "splitter", 384, (PART,))


def test_what_was_written_is_read() -> None:
    assert decode(encode(MANIFEST)) == MANIFEST


def test_no_flipped_or_missing_byte_goes_unnoticed() -> None:
    data = encode(MANIFEST)
    damaged = [data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :] for i in range(len(data))]
    for bad in [*damaged, *(data[:i] for i in range(len(data)))]:
        with pytest.raises((ValueError, KeyError, TypeError)):
            decode(bad)


def test_folders_are_distinct_where_names_could_run_together() -> None:
    pairs = [("a", "bc"), ("ab", "c"), ("a", "b"), ("b", "a"), ("a/b", "c"), ("a", "b/c")]
    assert len({collection_folder(*pair) for pair in pairs}) == len(pairs)
