import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.errors import RequestError
from actors.messages import Document
from actors.retrieval.readers import parse_upload, read_paths

LIMIT = 1000


def write(path: Path, data: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_text_files_are_one_document_each(tmp_path: Path) -> None:
    path = write(tmp_path / "note.md", "\ufeff# Title\n\nText é.")
    assert list(read_paths([path], LIMIT)) == [Document("note.md", "# Title\n\nText é.")]


def test_folders_are_read_sorted_with_relative_ids(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.TXT", "a/y.md", ".hidden/x.txt", "picture.png", "a/.secret.md"):
        write(tmp_path / name, f"text of {name}")
    assert [d.id for d in read_paths([tmp_path], LIMIT)] == ["a/y.md", "a/z.TXT", "b.txt"]


def test_jsonl_keeps_title_and_other_fields_as_metadata(tmp_path: Path) -> None:
    lines = [
        {"id": "one", "text": "First.", "title": "T", "metadata": {"year": 1}},
        {"id": 2, "text": "Second.", "tag": "x"},
        {"text": "Third."},
    ]
    path = write(tmp_path / "d.jsonl", "\n\n".join(json.dumps(line) for line in lines))
    one, two, three = read_paths([path], LIMIT)
    assert one == Document("one", "First.", {"title": "T", "year": 1})
    assert two == Document("2", "Second.", {"tag": "x"})
    assert three.id == parse_upload("x.jsonl", b'{"text": "Third."}', LIMIT)[0].id


def test_parquet_columns_are_metadata(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": ["a", "b"],
            "text": ["First.", "Second."],
            "year": [1, None],
            "day": pa.array([0, 1], pa.date32()),
        }
    )
    pq.write_table(table, tmp_path / "d.parquet")
    first, second = read_paths([tmp_path / "d.parquet"], LIMIT)
    assert first == Document("a", "First.", {"year": 1, "day": "1970-01-01"})
    assert second == Document("b", "Second.", {"day": "1970-01-02"})
    data = (tmp_path / "d.parquet").read_bytes()
    assert parse_upload("up.parquet", data, LIMIT) == [first, second]


def test_upload_name_is_never_a_path() -> None:
    assert parse_upload("../../etc/passwd.txt", b"text", LIMIT)[0].id == "passwd.txt"
    assert parse_upload("C:\\temp\\a.md", b"text", LIMIT)[0].id == "a.md"


@pytest.mark.parametrize(
    ("name", "data", "field", "message"),
    [
        ("a.txt", b"", "a.txt", "empty file"),
        ("a.txt", b" \n ", "a.txt", "is empty"),
        ("a.txt", b"ab\0c", "a.txt", "is binary: NUL at byte 2"),
        ("a.md", b"abc\xff\xfe", "a.md", "is not UTF-8: byte 0xff at offset 3"),
        ("a.txt", b"x" * 1001, "a.txt", "has 1001 bytes, at most 1000"),
        ("a.pdf", b"x", "a.pdf", "unknown kind '.pdf', allowed are .txt, .md, .jsonl, .parquet"),
        ("noext", b"x", "noext", "unknown kind ''"),
        ("", b"x", "file.filename", "1 character"),
        ("a.jsonl", b"", "a.jsonl", "empty file"),
        ("a.jsonl", b'{"text": "x"}\n{"text": ', "a.jsonl:2", "is not JSON"),
        ("a.jsonl", b'{"text": "x"}\n\n[1]', "a.jsonl:3", "is a list, must be an object"),
        ("a.jsonl", b'{"id": "a"}', "a.jsonl:1.text", "is missing"),
        ("a.jsonl", b'{"text": 3}', "a.jsonl:1.text", "is a int"),
        ("a.jsonl", b'{"text": " "}', "a.jsonl:1.text", "is empty"),
        ("a.jsonl", b'{"text": "x", "id": []}', "a.jsonl:1.id", "is a list"),
        ("a.jsonl", b'{"text": "x", "id": ""}', "a.jsonl:1.id", "1 character"),
        ("a.jsonl", b'{"text": "x", "metadata": 1}', "a.jsonl:1.metadata", "must be an object"),
        ("a.jsonl", b'{"text": "\\ud800"}', "a.jsonl:1.text", "lone surrogate"),
        ("a.jsonl", b'{"text": "a\\u0000"}', "a.jsonl:1.text", "is binary"),
        ("a.jsonl", b'{"text": "\xff"}', "a.jsonl:1", "is not UTF-8: byte 0xff at offset 10"),
        ("a.jsonl", b'{"x": ' + b"[" * 100_000, "a.jsonl:1", "is not JSON"),
        ("a.jsonl", b'{"text":"%s"}' % (b"x" * 1001), "a.jsonl:1.text", "at most 1000"),
        ("a.jsonl", b'{"text":"%s"}' % (b"x" * 300_000), "a.jsonl:1", "at most 1000"),
        (
            "a.jsonl",
            b'{"id":"a","text":"x"}\n{"id":"a","text":"y"}',
            "a.jsonl",
            "'a' appears twice",
        ),
        ("a.parquet", b"PAR1 nonsense", "a.parquet", "not a readable Parquet file"),
        ("a.parquet", b"", "a.parquet", "not a readable Parquet file"),
    ],
)
def test_bad_input_is_named(name: str, data: bytes, field: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_upload(name, data, LIMIT)
    assert caught.value.field == field
    assert message in caught.value.message


def test_parquet_without_text_lists_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "d.parquet")
    with pytest.raises(RequestError, match="no column text; columns are body"):
        list(read_paths([tmp_path / "d.parquet"], LIMIT))


def test_same_id_in_two_files_is_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a" / "n.txt", "one")
    second = write(tmp_path / "b" / "n.txt", "two")
    with pytest.raises(RequestError, match="'n.txt' appears twice"):
        list(read_paths([first, second], LIMIT))


def test_missing_path_and_folder_without_documents(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such file"):
        list(read_paths([tmp_path / "no.txt"], LIMIT))
    with pytest.raises(RequestError, match="holds no .txt"):
        list(read_paths([tmp_path], LIMIT))


@given(data=st.binary(max_size=200), kind=st.sampled_from([".txt", ".jsonl", ".parquet"]))
def test_any_bytes_give_documents_or_a_request_error(data: bytes, kind: str) -> None:
    try:
        documents = parse_upload("f" + kind, data, LIMIT)
    except RequestError:
        return
    assert documents and all(document.text.strip() for document in documents)
