"""An immutable part of a collection: its documents, passages and vectors, on disk and opened.

A part is built in a staging folder, some documents at a time and never whole in memory (but for
its index), and published complete. Opened, it maps its files; in memory are ids and few numbers.
"""

import json
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from actors.messages import Document, DocumentInfo, Passage
from actors.retrieval.embedding import Vectors
from actors.retrieval.index import VectorIndex, write_index
from actors.retrieval.manifest import PartEntry
from actors.retrieval.storage import measure
from actors.retrieval.tables import (
    DOCUMENT_GROUP_ROWS,
    DOCUMENT_SCHEMA,
    DOCUMENTS,
    PASSAGE_GROUP_ROWS,
    PASSAGES,
    RowFile,
    Rows,
    create_parquet,
    passage_schema,
    vectors_of,
)

INDEX = "vectors.faiss"
_PASSAGE_COLUMNS = ["document", "ordinal", "start", "end", "num_tokens", "text", "metadata"]


class PartBuilder:
    """Writes one part into `folder`."""

    def __init__(self, folder: Path, dim: int, ivf_threshold: int) -> None:
        self._folder, self._dim, self._ivf_threshold = folder, dim, ivf_threshold
        self._documents = create_parquet(folder / DOCUMENTS, DOCUMENT_SCHEMA)
        self._passages = create_parquet(folder / PASSAGES, passage_schema(dim))
        self._num_documents = self._num_passages = 0

    def add(self, documents: pa.Table, passages: pa.Table) -> None:
        """Append rows; the passages' `document` counts from 0 within these documents."""
        moved = pc.add(passages["document"], pa.scalar(self._num_documents, pa.int32()))
        passages = passages.set_column(0, passages.schema.field(0), moved)
        self._documents.write_table(documents, row_group_size=DOCUMENT_GROUP_ROWS)
        self._passages.write_table(passages, row_group_size=PASSAGE_GROUP_ROWS)
        self._num_documents += documents.num_rows
        self._num_passages += passages.num_rows

    def finish(self, name: str) -> PartEntry:
        """Build the index and close; the folder can be published under `name`."""
        self.close()
        passages = RowFile(self._folder / PASSAGES)
        batches = partial(_vectors, passages)
        path = self._folder / INDEX
        write_index(batches, self._num_passages, self._dim, self._ivf_threshold, path)
        passages.close()
        files = {file: measure(self._folder / file) for file in (DOCUMENTS, PASSAGES, INDEX)}
        return PartEntry(name, self._num_documents, self._num_passages, files, ())

    def close(self) -> None:
        self._documents.close()
        self._passages.close()


class Part:
    """Thread-safe and read-only. Its files are mapped, so it outlives their removal."""

    def __init__(self, folder: Path) -> None:
        self._documents = RowFile(folder / DOCUMENTS)
        self._passages = RowFile(folder / PASSAGES)
        self.index = VectorIndex(folder / INDEX)
        self.ids = self._documents.column("id")
        self.document_of: NDArray[np.int32] = self._passages.column("document").to_numpy()
        """Row of each passage's document; ascending."""

    @property
    def num_documents(self) -> int:
        return len(self.ids)

    @cached_property
    def row_of(self) -> dict[str, int]:
        return {document_id: row for row, document_id in enumerate(self.ids.to_pylist())}

    @cached_property
    def digests(self) -> list[bytes]:
        return cast(list[bytes], self._documents.column("digest").to_pylist())

    @cached_property
    def num_chars(self) -> Rows:
        return cast(Rows, self._documents.column("num_chars").to_numpy())

    @cached_property
    def num_passages(self) -> Rows:
        """How many passages each document has."""
        return np.bincount(self.document_of, minlength=self.num_documents)

    def sorted_from(self, first: str) -> Iterator[tuple[str, int]]:
        """(id, row) of the documents from `first` on, by id."""
        order, ids = self._sorted
        for i in range(bisect_left(ids, first), len(ids)):
            yield ids[i], order[i]

    def passage_rows(self, documents: Rows) -> Rows:
        """Rows of all passages of these documents."""
        starts = np.searchsorted(self.document_of, documents, "left")
        ends = np.searchsorted(self.document_of, documents, "right")
        ranges = [np.arange(a, b, dtype=np.int64) for a, b in zip(starts, ends, strict=True)]
        return np.concatenate(ranges) if ranges else np.empty(0, np.int64)

    def passages(self, rows: Rows) -> list[Passage]:
        """In the order of `rows`."""
        table = self._passages.take(rows, _PASSAGE_COLUMNS)
        return [self._passage(row) for row in table.to_pylist()]

    def text_digests(self, rows: Rows) -> Rows:
        """`text_digest` of these passages."""
        return cast(Rows, self._passages.column("text_digest").to_numpy()[rows])

    def vectors(self, rows: Rows) -> Vectors:
        """[rows, dim], as the index has them."""
        return vectors_of(self._passages.take(rows, ["vector"])["vector"].combine_chunks())

    def infos(self, rows: Rows) -> list[DocumentInfo]:
        table = self._documents.take(rows, ["id", "num_chars", "num_passages", "metadata"])
        return [
            DocumentInfo(r["id"], r["num_chars"], r["num_passages"], json.loads(r["metadata"]))
            for r in table.to_pylist()
        ]

    def documents(self, rows: Rows) -> list[Document]:
        table = self._documents.take(rows, ["id", "text", "metadata"])
        return [Document(r["id"], r["text"], json.loads(r["metadata"])) for r in table.to_pylist()]

    def tables(self, rows: Rows) -> tuple[pa.Table, pa.Table]:
        """These documents and their passages, as `PartBuilder.add` takes them."""
        kept = self.passage_rows(rows)
        passages = self._passages.take(kept)
        counts = self.num_passages[rows]
        renumbered = np.repeat(np.arange(len(rows), dtype=np.int32), counts)
        passages = passages.set_column(0, passages.schema.field(0), pa.array(renumbered))
        return self._documents.take(rows), passages

    @cached_property
    def _sorted(self) -> tuple[list[int], list[str]]:
        order = pc.sort_indices(self.ids)
        return order.to_pylist(), self.ids.take(order).to_pylist()

    def _passage(self, row: dict[str, Any]) -> Passage:
        return Passage(
            document_id=self.ids[row["document"]].as_py(),
            ordinal=row["ordinal"],
            text=row["text"],
            start=row["start"],
            end=row["end"],
            num_tokens=row["num_tokens"],
            metadata=json.loads(row["metadata"]),
        )


def _vectors(passages: RowFile) -> Iterator[Vectors]:
    for column in passages.batches("vector"):
        yield vectors_of(column)
