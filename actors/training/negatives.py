"""Hard negatives: what the service's own retrieval would put beside the right passage."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from actors.retrieval.embedding import Embeds
from actors.training.data import Question


def nearest(
    embedder: Embeds, questions: Sequence[str], passages: Sequence[str], num: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Indices and cosines [q, num] of the nearest passages, best first."""
    similar = embedder.embed(questions) @ embedder.embed(passages).T
    order = np.argsort(-similar, axis=1, kind="stable")[:, :num]
    return order, np.take_along_axis(similar, order, axis=1)


def hard_negatives(
    embedder: Embeds, questions: Sequence[Question], passages: Sequence[str], num: int
) -> list[list[int]]:
    """Up to `num` passages for each question, nearest first, without its own."""
    indices, _ = nearest(embedder, [q.text for q in questions], passages, num + 1)
    return [
        [int(i) for i in row if i != question.positive][:num]
        for question, row in zip(questions, indices, strict=True)
    ]
