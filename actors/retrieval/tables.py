"""The two tables of a part, as Arrow schemas and as Parquet files.

documents.parquet   one row a document
passages.parquet    one row a passage, in the order of documents and of their text; row i is row i
                    of the index. Row groups are small, because a search reads single passages.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.parquet import ParquetFile, ParquetWriter

from actors.messages import Document
from actors.passages import Span
from actors.retrieval.documents import content_digest, encode_metadata
from actors.retrieval.embedding import Vectors

DOCUMENTS = "documents.parquet"
PASSAGES = "passages.parquet"
DOCUMENT_GROUP_ROWS = 64
PASSAGE_GROUP_ROWS = 64
_BATCH_ROWS = 4096

Rows = NDArray[np.int64]

DOCUMENT_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("metadata", pa.string()),
        ("digest", pa.binary(16)),
        ("num_chars", pa.int64()),
        ("num_passages", pa.int32()),
    ]
)


def passage_schema(dim: int) -> pa.Schema:
    return pa.schema(
        [
            ("document", pa.int32()),  # row in documents.parquet
            ("ordinal", pa.int32()),
            ("start", pa.int64()),
            ("end", pa.int64()),
            ("num_tokens", pa.int32()),
            ("text", pa.string()),
            ("text_digest", pa.int64()),
            ("metadata", pa.string()),
            ("vector", pa.list_(pa.float32(), dim)),
        ]
    )


@dataclass(frozen=True, slots=True)
class SplitDocument:
    document: Document
    spans: Sequence[Span]

    @property
    def texts(self) -> list[str]:
        return [self.document.text[span.start : span.end] for span in self.spans]


def text_digest(text: str) -> int:
    """8 bytes as a signed integer: tells whether a passage's text is anywhere in a collection."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def document_rows(split: Sequence[SplitDocument]) -> pa.Table:
    metadata = [encode_metadata(s.document.metadata) for s in split]
    columns = {
        "id": [s.document.id for s in split],
        "text": [s.document.text for s in split],
        "metadata": metadata,
        "digest": [
            content_digest(s.document.text, m) for s, m in zip(split, metadata, strict=True)
        ],
        "num_chars": [len(s.document.text) for s in split],
        "num_passages": [len(s.spans) for s in split],
    }
    return pa.table(columns, schema=DOCUMENT_SCHEMA)


def passage_rows(split: Sequence[SplitDocument], vectors: Vectors) -> pa.Table:
    """Rows of these documents' passages; `document` counts from 0 within `split`."""
    spans = [span for s in split for span in s.spans]
    texts = [text for s in split for text in s.texts]
    counts = [len(s.spans) for s in split]
    metadata = [encode_metadata(s.document.metadata) for s in split]
    dim = vectors.shape[1]
    columns = {
        "document": np.repeat(np.arange(len(split), dtype=np.int32), counts),
        "ordinal": [i for count in counts for i in range(count)],
        "start": [span.start for span in spans],
        "end": [span.end for span in spans],
        "num_tokens": [span.num_tokens for span in spans],
        "text": texts,
        "text_digest": [text_digest(text) for text in texts],
        "metadata": [m for m, count in zip(metadata, counts, strict=True) for _ in range(count)],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dim),
    }
    return pa.table(columns, schema=passage_schema(dim))


def vectors_of(column: Any) -> Vectors:
    """An Arrow array of vectors as float32 [rows, dim]."""
    flat = column.flatten().to_numpy(zero_copy_only=True)
    return np.asarray(flat, np.float32).reshape(len(column), -1)


class RowFile:
    """A memory-mapped Parquet file of which single rows are read. Thread-safe.

    Every page's checksum is verified when it is read.
    """

    def __init__(self, path: Path) -> None:
        self._file = ParquetFile(path, memory_map=True, page_checksum_verification=True)
        # Parquet readers hold buffers of their own and are not made for several threads.
        self._lock = threading.Lock()
        metadata = self._file.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def take(self, rows: Rows, columns: Sequence[str] | None = None) -> pa.Table:
        """These rows, in this order; reads only the row groups that hold them."""
        groups = np.searchsorted(self._starts, rows, "right") - 1
        needed, position = np.unique(groups, return_inverse=True)
        with self._lock:
            table = self._file.read_row_groups(needed.tolist(), columns=columns, use_threads=False)
        sizes = self._starts[needed + 1] - self._starts[needed]
        before = np.concatenate([[0], np.cumsum(sizes)])[position]
        return table.take(pa.array(rows - self._starts[groups] + before))

    def column(self, name: str) -> Any:
        """A whole column as one Arrow array."""
        with self._lock:
            column = self._file.read(columns=[name], use_threads=False)[name]
        return column.combine_chunks()

    def batches(self, column: str) -> Iterator[Any]:
        """A whole column, some thousand rows at a time; for the only user of a file."""
        for batch in self._file.iter_batches(_BATCH_ROWS, columns=[column]):
            yield batch.column(0)

    def close(self) -> None:
        self._file.close()


def create_parquet(path: Path, schema: pa.Schema) -> ParquetWriter:
    compression = {
        name: "zstd" if name in ("text", "metadata") else "none" for name in schema.names
    }
    if "vector" in schema.names:
        compression["vector.list.element"] = "none"
    return ParquetWriter(
        path,
        schema,
        compression=compression,
        use_dictionary=["metadata"],
        write_statistics=False,
        write_page_checksum=True,
    )
