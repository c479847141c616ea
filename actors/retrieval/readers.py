"""Documents from files: .txt and .md hold one, .jsonl and .parquet one in each line or row.

A RequestError names the file, the line and the field; nothing unreadable is skipped in silence,
except that a folder may hold other kinds of files.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from actors.errors import RequestError
from actors.messages import Document
from actors.retrieval.documents import (
    check_document,
    check_id,
    check_text,
    duplicate_message,
    too_large_message,
)
from actors.retrieval.records import read_jsonl, read_parquet

Reader = Callable[[BinaryIO, str, int], Iterator[Document]]


def read_paths(paths: Iterable[str | Path], max_document_bytes: int) -> Iterator[Document]:
    """Documents of files and, sorted, of folders; unique ids, each within `max_document_bytes`."""
    seen: set[str] = set()
    for given in paths:
        root = Path(given).expanduser()
        for path, name in _files(root):
            for document in _read_file(path, name, max_document_bytes):
                if document.id in seen:
                    raise RequestError(str(path), f"id {duplicate_message(document.id)}")
                seen.add(document.id)
                yield document


def parse_upload(filename: str, data: bytes, max_document_bytes: int) -> list[Document]:
    """Documents of one uploaded file. `filename` gives the kind and the id, never a path."""
    name = filename.replace("\\", "/").rsplit("/", 1)[-1]
    check_id(name, "file.filename")
    documents = list(_reader(name)(io.BytesIO(data), name, max_document_bytes))
    ids: set[str] = set()
    for document in documents:
        if document.id in ids:
            raise RequestError(name, f"id {duplicate_message(document.id)}")
        ids.add(document.id)
    return documents


def _files(root: Path) -> Iterator[tuple[Path, str]]:
    """(file, name) where the name is relative to the folder given; hidden ones are left out."""
    if not root.is_dir():
        if not root.is_file():
            raise RequestError(str(root), "there is no such file or folder")
        yield root, root.name
        return
    found = False
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        hidden = any(part.startswith(".") for part in name.parts)
        if not hidden and path.suffix.lower() in READERS and path.is_file():
            found = True
            yield path, name.as_posix()
    if not found:
        raise RequestError(str(root), f"the folder holds no {_allowed()} file")


def _read_file(path: Path, name: str, max_document_bytes: int) -> Iterator[Document]:
    reader = _reader(name)
    try:
        with path.open("rb") as file:
            yield from reader(file, name, max_document_bytes)
    except OSError as error:
        raise RequestError(str(path), f"cannot be read: {error.strerror or error}") from error


def _reader(name: str) -> Reader:
    extension = Path(name).suffix.lower()
    if extension not in READERS:
        raise RequestError(name, f"is of unknown kind {extension!r}, allowed are {_allowed()}")
    return READERS[extension]


def _allowed() -> str:
    return ", ".join(READERS)


def _read_text(file: BinaryIO, name: str, max_document_bytes: int) -> Iterator[Document]:
    data = file.read(max_document_bytes + 1)
    if not data:
        raise RequestError(name, "is an empty file; a document needs some text")
    if len(data) > max_document_bytes:
        nbytes = file.seek(0, io.SEEK_END)
        raise RequestError(name, too_large_message(nbytes, max_document_bytes))
    if b"\0" in data:
        raise RequestError(name, f"is binary: NUL at byte {data.index(0)}; {_allowed()} hold text")
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        message = f"is not UTF-8: byte {data[error.start]:#04x} at offset {error.start}"
        raise RequestError(name, message) from error
    check_text(text, name, max_document_bytes)
    document = Document(name, text)
    check_document(document, name, max_document_bytes)
    yield document


READERS: dict[str, Reader] = {
    ".txt": _read_text,
    ".md": _read_text,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
}
