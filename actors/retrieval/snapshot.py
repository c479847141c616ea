"""One version of a collection, opened: what a search answers from, whatever happens since."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from actors.errors import UnavailableError
from actors.messages import DocumentInfo, DocumentPage, Found, FusedSegment, Passage
from actors.retrieval.embedding import Vectors
from actors.retrieval.manifest import (
    Manifest,
    PartEntry,
    collection_folder,
    latest_version,
    read_manifest,
)
from actors.retrieval.part import Part
from actors.retrieval.storage import Storage
from actors.retrieval.tables import Rows
from actors.retrieval.variants import Variants, open_variants

_OPEN_ATTEMPTS = 8
_SCORE_DECIMALS = 5
"""Below this, scores differ by how many questions were searched together."""
_READ_PASSAGES = 256


@dataclass(frozen=True)
class LivePart:
    """A part and which of its documents this version has. Not slotted: masks are made once."""

    entry: PartEntry
    part: Part

    @cached_property
    def alive(self) -> NDArray[np.bool_]:
        alive = np.ones(self.part.num_documents, bool)
        alive[list(self.entry.dead)] = False
        return alive

    @cached_property
    def rows(self) -> Rows:
        """Rows of the documents that are alive."""
        return np.flatnonzero(self.alive)

    @cached_property
    def alive_passages(self) -> NDArray[np.bool_] | None:
        """None when all are: a search without a filter is faster."""
        return self.alive[self.part.document_of] if self.entry.dead else None

    @cached_property
    def num_passages(self) -> int:
        return int(self.part.num_passages[self.alive].sum())

    @cached_property
    def passage_rows(self) -> Rows:
        """Of the passages that are alive."""
        return self.part.passage_rows(self.rows)

    @cached_property
    def text_digests(self) -> Rows:
        """Of these passages: a change asks for them several times."""
        return self.part.text_digests(self.passage_rows)

    def row(self, document_id: str) -> int | None:
        row = self.part.row_of.get(document_id)
        return row if row is not None and self.alive[row] else None


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Ordered as answers are: by score, then by document and place, so that ties have an order."""

    score: float
    document_id: str
    row: int
    part: Part

    @property
    def rank(self) -> tuple[float, str, int]:
        return (-round(self.score, _SCORE_DECIMALS), self.document_id, self.row)


class Snapshot:
    """Immutable and thread-safe."""

    def __init__(self, manifest: Manifest, parts: Sequence[LivePart], variants: Variants) -> None:
        self.manifest, self.variants = manifest, variants
        self.parts = tuple(parts)

    @property
    def version(self) -> int:
        return self.manifest.version

    @cached_property
    def num_documents(self) -> int:
        return sum(len(live.rows) for live in self.parts)

    @cached_property
    def num_passages(self) -> int:
        return sum(live.num_passages for live in self.parts)

    def search(self, queries: Vectors, top_n: int) -> list[list[Found]]:
        """For each unit vector of [q, dim] the best passages, best first; at most `top_n`."""
        candidates: list[list[_Candidate]] = [[] for _ in queries]
        for live in self.parts:
            nearest = live.part.index.search(queries, top_n, live.alive_passages)
            for i in range(len(queries)):
                candidates[i] += _candidates(live.part, nearest.scores[i], nearest.rows[i])
        best = [heapq.nsmallest(top_n, some, key=lambda c: c.rank) for some in candidates]
        passages = self._read({(c.part, c.row) for some in best for c in some})
        return [[self._found(passages[c.part, c.row], c.score) for c in some] for some in best]

    def names(self, segment: FusedSegment) -> bool:
        """Whether searches give this fused segment for its passage."""
        return self.variants.digest(segment.text) == segment.neighbours

    def find(self, document_id: str) -> tuple[LivePart, int] | None:
        """Where a document is: its part, and its row there."""
        for live in self.parts:
            row = live.row(document_id)
            if row is not None:
                return live, row
        return None

    def page(self, after: str | None, limit: int) -> DocumentPage:
        """`limit` documents by id, behind `after`."""
        places = (place for place in self._places(after or "") if place[0] != after)
        chosen = list(islice(places, limit))
        more = next(places, None) is not None
        next_after = chosen[-1][0] if more and chosen else None
        return DocumentPage(self.version, self.num_documents, self._infos(chosen), next_after)

    def passages(
        self, document_ids: Sequence[str] | None = None, after: tuple[str, int] | None = None
    ) -> Iterator[Passage]:
        """Passages (of these documents) by document id and ordinal, behind the pair `after`."""
        for document_id, row, live in self._places(after[0] if after else "", document_ids):
            rows = live.part.passage_rows(np.array([row]))
            if after and document_id == after[0]:
                rows = rows[after[1] + 1 :]
            for i in range(0, len(rows), _READ_PASSAGES):
                yield from live.part.passages(rows[i : i + _READ_PASSAGES])

    def check(self) -> tuple[str, ...]:
        """Problems, one line each: what parts hold against what the manifest says of them."""
        problems = [line for live in self.parts for line in _check_part(live)]
        ids = [document_id for document_id, _, _ in self._places("")]
        if len(set(ids)) != len(ids):
            problems.append(f"{len(ids) - len(set(ids))} ids live in more than one part")
        return tuple(problems)

    def _places(
        self, first: str, document_ids: Sequence[str] | None = None
    ) -> Iterator[tuple[str, int, LivePart]]:
        """(id, row, part) of living documents by id, from `first` on."""
        if document_ids is None:
            streams = [_living(live, first) for live in self.parts]
            yield from heapq.merge(*streams, key=lambda place: place[0])
            return
        for document_id in sorted(set(document_ids)):
            place = self.find(document_id) if document_id >= first else None
            if place is not None:
                yield document_id, place[1], place[0]

    def _found(self, passage: Passage, score: float) -> Found:
        return Found(passage, score, self.variants.digest(passage.text))

    def _infos(self, places: Sequence[tuple[str, int, LivePart]]) -> tuple[DocumentInfo, ...]:
        by_id: dict[str, DocumentInfo] = {}
        for live in self.parts:
            rows = [row for _, row, owner in places if owner is live]
            if rows:
                by_id |= {info.id: info for info in live.part.infos(np.array(rows))}
        return tuple(by_id[document_id] for document_id, _, _ in places)

    def _read(self, wanted: set[tuple[Part, int]]) -> dict[tuple[Part, int], Passage]:
        """Each passage once, however many questions found it."""
        read: dict[tuple[Part, int], Passage] = {}
        for live in self.parts:
            rows = sorted(row for part, row in wanted if part is live.part)
            if rows:
                passages = live.part.passages(np.array(rows))
                read |= {(live.part, r): p for r, p in zip(rows, passages, strict=True)}
        return read


def open_snapshot(
    storage: Storage, tenant: str, collection: str, known: Snapshot | None
) -> Snapshot | None:
    """The current version, None when the collection does not exist; what the `known` version has
    open is reused.

    A version may be retired while it is opened: then a newer one is there, and is opened instead.
    """
    folder = collection_folder(tenant, collection)
    for _ in range(_OPEN_ATTEMPTS):
        version = latest_version(storage, folder)
        if not version:
            return None
        manifest = read_manifest(storage, folder, version)
        if manifest is None:
            continue
        parts = _open_parts(storage, folder, manifest, known)
        variants = known.variants if known else None
        if variants is None or variants.entry != manifest.variants:
            variants = open_variants(storage, folder, manifest.variants)
        if parts is not None and variants is not None:
            return Snapshot(manifest, parts, variants)
    raise UnavailableError(
        f"no version of collection {collection!r} could be opened in {_OPEN_ATTEMPTS} attempts: "
        "files of its current version are missing; restore them, or ingest again"
    )


def _open_parts(
    storage: Storage, folder: str, manifest: Manifest, known: Snapshot | None
) -> list[LivePart] | None:
    opened = {live.entry.name: live.part for live in known.parts} if known else {}
    parts: list[LivePart] = []
    for entry in manifest.parts:
        part = opened.get(entry.name)
        if part is None:
            path = storage.open_folder(f"{folder}/{entry.name}", entry.files)
            if path is None:
                return None
            try:
                part = Part(path)
            except FileNotFoundError:  # retired after its checksums were read
                return None
        parts.append(LivePart(entry, part))
    return parts


def _candidates(part: Part, scores: Vectors, rows: Rows) -> Iterator[_Candidate]:
    for score, row in zip(scores.tolist(), rows.tolist(), strict=True):
        if row >= 0:
            yield _Candidate(score, part.ids[int(part.document_of[row])].as_py(), row, part)


def _living(live: LivePart, first: str) -> Iterator[tuple[str, int, LivePart]]:
    for document_id, row in live.part.sorted_from(first):
        if live.alive[row]:
            yield document_id, row, live


def _check_part(live: LivePart) -> Iterator[str]:
    entry, part = live.entry, live.part
    counts = {
        "documents": (entry.num_documents, part.num_documents),
        "passages": (entry.num_passages, len(part.document_of)),
        "vectors": (entry.num_passages, part.index.num_vectors),
    }
    for what, (expected, actual) in counts.items():
        if expected != actual:
            yield f"{entry.name}: {actual} {what}, the manifest says {expected}"
    for row in live.rows:
        (document,) = part.documents(np.array([row]))
        for passage in part.passages(part.passage_rows(np.array([row]))):
            if passage.text != document.text[passage.start : passage.end]:
                yield f"{entry.name}: {document.id}[{passage.ordinal}] is not its document's text"
