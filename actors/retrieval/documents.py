"""What a document must be, and its digest: the same for files, uploads and the API."""

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

from actors.errors import RequestError
from actors.messages import Document

MAX_ID_CHARS = 512
MAX_METADATA_BYTES = 64 * 1024


def check_documents(documents: Iterable[Document], max_document_bytes: int) -> None:
    """RequestError for the first document that cannot be kept, or whose id came before."""
    seen: set[str] = set()
    for i, document in enumerate(documents):
        check_document(document, f"documents[{i}]", max_document_bytes)
        if document.id in seen:
            raise RequestError(f"documents[{i}].id", duplicate_message(document.id))
        seen.add(document.id)


def check_document(document: Document, where: str, max_document_bytes: int) -> None:
    """RequestError that names `where` unless id, text and metadata can be kept."""
    check_id(document.id, f"{where}.id")
    check_text(document.text, f"{where}.text", max_document_bytes)
    encode_metadata(document.metadata, f"{where}.metadata")


def check_id(document_id: str, where: str) -> None:
    if not isinstance(document_id, str) or not document_id.strip():
        raise RequestError(where, "must be a text of 1 character or more")
    if len(document_id) > MAX_ID_CHARS:
        raise RequestError(where, f"has {len(document_id)} characters, at most {MAX_ID_CHARS}")
    if not document_id.isprintable():
        raise RequestError(where, f"{document_id!r} has characters that cannot be printed")


def check_text(text: str, where: str, max_document_bytes: int) -> None:
    if not isinstance(text, str):
        raise RequestError(where, f"is a {type(text).__name__}, must be a text")
    if not text.strip():
        raise RequestError(where, "is empty; a document needs some text")
    if "\0" in text:
        raise RequestError(where, f"is binary: NUL at character {text.index(chr(0))}")
    try:
        nbytes = len(text.encode())
    except UnicodeEncodeError as error:
        message = f"is not Unicode text: a lone surrogate at character {error.start}"
        raise RequestError(where, message) from error
    if nbytes > max_document_bytes:
        raise RequestError(where, too_large_message(nbytes, max_document_bytes))


def encode_metadata(metadata: Mapping[str, Any], where: str = "metadata") -> str:
    """Canonical JSON: equal metadata has equal text, in whatever order its keys came."""
    if not isinstance(metadata, Mapping):
        raise RequestError(where, f"is a {type(metadata).__name__}, must be an object")
    if any(not isinstance(key, str) for key in metadata):
        raise RequestError(where, "has a key that is not a text")
    try:
        encoded = json.dumps(dict(metadata), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(where, f"cannot be written as JSON: {error}") from error
    if len(encoded) > MAX_METADATA_BYTES:
        raise RequestError(where, f"has {len(encoded)} bytes, at most {MAX_METADATA_BYTES}")
    return encoded


def content_digest(text: str, metadata_json: str) -> bytes:
    """16 bytes over text and metadata: equal digests, nothing to do."""
    state = blake2b(digest_size=16)
    for part in (text.encode(), metadata_json.encode()):
        state.update(len(part).to_bytes(8, "little") + part)
    return state.digest()


def too_large_message(nbytes: int, max_document_bytes: int) -> str:
    return (
        f"has {nbytes} bytes, at most {max_document_bytes} (retrieval.max_document_bytes); "
        "split it into several documents"
    )


def duplicate_message(document_id: str) -> str:
    return f"{document_id!r} appears twice in one batch; ids must be unique"
