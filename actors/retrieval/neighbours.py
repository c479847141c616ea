"""The nearest passages of each passage of a collection, by the vectors of its index."""

from collections.abc import Sequence

import numpy as np

from actors.messages import Neighbourhood, Passage
from actors.retrieval.embedding import Vectors
from actors.retrieval.snapshot import Snapshot

_DUPLICATES = 4
"""So many more are looked for, in place of the passage itself and of equal texts."""


def neighbourhoods(
    snapshot: Snapshot, passages: Sequence[Passage], num: int
) -> list[Neighbourhood]:
    """Of each passage of this version the texts of the `num` nearest others, nearest first; equal
    texts count once."""
    if not passages:
        return []
    found = snapshot.search(_vectors(snapshot, passages), num + 1 + _DUPLICATES)
    made = []
    for passage, hits in zip(passages, found, strict=True):
        texts = dict.fromkeys(hit.passage.text for hit in hits)
        texts.pop(passage.text, None)
        made.append(Neighbourhood(passage.text, tuple(texts)[:num]))
    return made


def _vectors(snapshot: Snapshot, passages: Sequence[Passage]) -> Vectors:
    vectors = np.empty((len(passages), snapshot.manifest.dim), np.float32)
    for i, passage in enumerate(passages):
        place = snapshot.find(passage.document_id)
        if place is None:
            raise ValueError(f"passage of {passage.document_id!r} is not of this version")
        live, document = place
        row = live.part.passage_rows(np.array([document]))[passage.ordinal]
        vectors[i] = live.part.vectors(np.array([row]))[0]
    return vectors
