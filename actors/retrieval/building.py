"""New parts: from documents (split and embedded), or from living rows of older parts."""

import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from actors.messages import Document
from actors.passages import PassageSplitter
from actors.retrieval.embedding import Embeds
from actors.retrieval.manifest import PART
from actors.retrieval.part import Part, PartBuilder
from actors.retrieval.snapshot import LivePart
from actors.retrieval.storage import Storage, medium
from actors.retrieval.tables import Rows, SplitDocument, document_rows, passage_rows

_CHUNK_CHARS = 4 * 2**20
_CHUNK_DOCUMENTS = 256

PartRows = tuple[pa.Table, pa.Table]


class PartFactory:
    """Builds parts one after another; each is published when it is returned."""

    def __init__(
        self, storage: Storage, embedder: Embeds, splitter: PassageSplitter, ivf_threshold: int
    ) -> None:
        self._storage, self._embedder, self._splitter = storage, embedder, splitter
        self._ivf_threshold = ivf_threshold

    def embed(self, folder: str, documents: Sequence[Document]) -> LivePart:
        """Split and embed documents into a part of the collection at `folder`."""
        sizes = [len(document.text) for document in documents]
        rows = (self._rows(documents[start:end]) for start, end in _ranges(sizes))
        return self._build(folder, self._embedder.dim, rows)

    def embed_again(self, folder: str, live: LivePart) -> LivePart:
        """The same documents with the present splitter and embedder."""
        rows = (self._rows(live.part.documents(some)) for some in _chunks(live))
        return self._build(folder, self._embedder.dim, rows)

    def merge(self, folder: str, parts: Sequence[LivePart], dim: int) -> LivePart:
        """The living rows of these parts, vectors included, as one part."""
        rows = (live.part.tables(some) for live in parts for some in _chunks(live))
        return self._build(folder, dim, rows)

    def _rows(self, documents: Sequence[Document]) -> PartRows:
        split = [SplitDocument(d, self._splitter.split(d.text)) for d in documents]
        vectors = self._embedder.embed([text for s in split for text in s.texts])
        return document_rows(split), passage_rows(split, vectors)

    def _build(self, folder: str, dim: int, rows: Iterable[PartRows]) -> LivePart:
        staged = self._storage.staging()
        name = f"{PART}{uuid.uuid4().hex}"
        try:
            with medium(staged):
                builder = PartBuilder(staged, dim, self._ivf_threshold)
                try:
                    for documents, passages in rows:
                        builder.add(documents, passages)
                    entry = builder.finish(name)
                finally:
                    builder.close()
                # Its maps stay valid when the folder gets its name, or is gone after an upload.
                part = Part(staged)
            self._storage.publish_folder(staged, f"{folder}/{name}")
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return LivePart(entry, part)


def _chunks(live: LivePart) -> Iterator[Rows]:
    """Rows of the living documents, so many at a time as fit in memory with ease."""
    rows = live.rows
    for start, end in _ranges(live.part.num_chars[rows].tolist()):
        yield rows[start:end]


def _ranges(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges [start, end) of at most so many documents and characters, or of a single one."""
    bounds = np.cumsum([0, *sizes])
    start = 0
    while start < len(sizes):
        fitting = int(np.searchsorted(bounds, bounds[start] + _CHUNK_CHARS, "right")) - 1
        end = max(start + 1, min(fitting, start + _CHUNK_DOCUMENTS))
        yield start, end
        start = end
