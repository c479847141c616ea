"""Documents from records: the lines of a .jsonl file, the rows of a .parquet file."""

import datetime
import decimal
import json
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, BinaryIO

from actors.errors import RequestError
from actors.messages import Document
from actors.retrieval.documents import check_document, too_large_message

_ROWS = 256
_LINE_OVERHEAD_BYTES = 256 * 1024
"""What a line may hold beside the text: id, metadata, JSON itself."""


def read_jsonl(file: BinaryIO, name: str, max_document_bytes: int) -> Iterator[Document]:
    """One object a line: `text`, and if wanted `id`, `title`, `metadata`; the rest is metadata."""
    # An escaped character takes up to six bytes of JSON for one of text.
    limit = 6 * max_document_bytes + _LINE_OVERHEAD_BYTES
    number, empty = 0, True
    while line := file.readline(limit + 1):
        number += 1
        where = f"{name}:{number}"
        if len(line) > limit:
            raise RequestError(where, too_large_message(len(line), max_document_bytes))
        if line.strip():
            empty = False
            yield _document(parse_object(line, where), where, max_document_bytes)
    if empty:
        raise RequestError(name, "is an empty file; expected one JSON object a line")


def read_parquet(file: BinaryIO, name: str, max_document_bytes: int) -> Iterator[Document]:
    """One document a row: column `text`, and if wanted `id`; other columns are metadata."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
        if "text" not in table.schema_arrow.names:
            columns = ", ".join(table.schema_arrow.names) or "none"
            raise RequestError(name, f"has no column text; columns are {columns}")
        if not table.metadata.num_rows:
            raise RequestError(name, "is an empty file; expected one document a row")
        row = 0
        for batch in table.iter_batches(_ROWS):
            for record in batch.to_pylist():
                where = f"{name}[{row}]"
                yield _document(_plain(record), where, max_document_bytes)
                row += 1
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise RequestError(name, f"is not a readable Parquet file: {error}") from error


def parse_object(line: bytes, where: str) -> dict[str, Any]:
    """The JSON object of one line. Raises RequestError that names `where`, file and line."""
    if b"\0" in line:
        raise RequestError(where, f"is binary: NUL at byte {line.index(0)} of the line")
    try:
        record = json.loads(line.decode().removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        message = f"is not UTF-8: byte {line[error.start]:#04x} at offset {error.start} of the line"
        raise RequestError(where, message) from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise RequestError(where, f"is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise RequestError(where, f"is a {type(record).__name__}, must be an object")
    return record


def _document(record: dict[str, Any], where: str, max_document_bytes: int) -> Document:
    fields = dict(record)
    text, given = fields.pop("text", None), fields.pop("id", None)
    if not isinstance(text, str):
        kind = "missing" if text is None else f"a {type(text).__name__}"
        raise RequestError(f"{where}.text", f"is {kind}, must be a text")
    metadata = fields.pop("metadata", None)
    if metadata is not None and not isinstance(metadata, dict):
        raise RequestError(f"{where}.metadata", "must be an object")
    document = Document(_id(given, text, where), text, {**fields, **(metadata or {})})
    check_document(document, where, max_document_bytes)
    return document


def _id(given: object, text: str, where: str) -> str:
    if given is None:
        return blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise RequestError(f"{where}.id", f"is a {type(given).__name__}, must be a text")
    return str(given)


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """Parquet's own types as JSON has them; nulls are left out."""
    readable = (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal)
    return {
        key: str(value) if isinstance(value, readable) else value
        for key, value in record.items()
        if value is not None
    }
