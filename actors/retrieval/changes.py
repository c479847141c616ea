"""What a change does to a collection's living parts and texts."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

import numpy as np

from actors.messages import Document, FusedSegment, Neighbourhood
from actors.retrieval.documents import content_digest, encode_metadata
from actors.retrieval.snapshot import LivePart, Snapshot
from actors.retrieval.tables import Rows
from kvstore.keys import neighbours_digest

_READ_PASSAGES = 256


def is_same(document: Document, snapshot: Snapshot | None) -> bool:
    """Whether the collection holds this document with this text and metadata."""
    place = snapshot.find(document.id) if snapshot else None
    if place is None:
        return False
    live, row = place
    digest = content_digest(document.text, encode_metadata(document.metadata))
    return live.part.digests[row] == digest


def without(snapshot: Snapshot | None, document_ids: Collection[str]) -> list[LivePart]:
    """The living parts when these documents are dead; parts without a living document go."""
    parts: list[LivePart] = []
    for live in snapshot.parts if snapshot else ():
        rows = {row for i in document_ids if (row := live.row(i)) is not None}
        if rows:
            dead = tuple(sorted(rows.union(live.entry.dead)))
            live = LivePart(replace(live.entry, dead=dead), live.part)
        if len(live.entry.dead) < live.entry.num_documents:
            parts.append(live)
    return parts


def texts_gone(before: Snapshot | None, after: Snapshot) -> tuple[str, ...]:
    """Passage texts that `before` had and `after` has nowhere."""
    if before is None:
        return ()
    remaining = text_digests(after.parts)
    gone: dict[str, None] = {}
    for live, rows in _lost(before, after):
        rows = rows[~np.isin(live.part.text_digests(rows), remaining)]
        for i in range(0, len(rows), _READ_PASSAGES):
            passages = live.part.passages(rows[i : i + _READ_PASSAGES])
            gone |= dict.fromkeys(passage.text for passage in passages)
    return tuple(gone)


def text_digests(parts: Iterable[LivePart]) -> Rows:
    """Of all living passages."""
    return np.concatenate([np.empty(0, np.int64), *(live.text_digests for live in parts)])


def fused_segment(made: Neighbourhood) -> FusedSegment:
    return FusedSegment(made.text, neighbours_digest(made.neighbours))


def fused_gone(before: Snapshot | None, after: Snapshot) -> tuple[FusedSegment, ...]:
    """Fused segments that `before` names and `after` does not."""
    lost = before.variants.lost(after.variants) if before else []
    if before is None or not lost:
        return ()
    texts: dict[int, str] = {}
    for live in before.parts:
        wanted = np.isin(live.text_digests, [passage for passage, _ in lost])
        found = live.part.passages(live.passage_rows[wanted]) if wanted.any() else []
        digests = live.text_digests[wanted].tolist()
        texts |= {digest: p.text for digest, p in zip(digests, found, strict=True)}
    return tuple(FusedSegment(texts[passage], digest) for passage, digest in lost)


def _lost(before: Snapshot, after: Snapshot) -> Iterator[tuple[LivePart, Rows]]:
    """Passage rows of `before` that do not live in the same part any more."""
    by_name = {live.entry.name: live for live in after.parts}
    for live in before.parts:
        now = by_name.get(live.entry.name)
        lost = live.alive if now is None else live.alive & ~now.alive
        if lost.any():
            yield live, live.part.passage_rows(np.flatnonzero(lost))
