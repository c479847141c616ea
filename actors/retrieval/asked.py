"""Vectors of questions, some of which follow other turns of a conversation.

A follow-up ("How heavy is it?") means nothing without the turns before it, and a question that goes
to a new topic is misled by them. Nothing decides which of the two a question is: the vector that is
searched for is the mean of the question's own vector and that of the joined turns. The passages
nearest to it are those with the highest mean of both similarities, so one search finds them.
"""

from collections.abc import Sequence

import numpy as np

from actors.conversation import excerpt, joined
from actors.retrieval.embedding import Embeds, Vectors

Asked = tuple[Sequence[str], str]
"""The turns before a question, oldest first, and the question."""


def vectors_of(asked: Sequence[Asked], embedder: Embeds) -> Vectors:
    """Unit vectors [q, dim], one pass for all. Turns are joined as far as the embedder reads; an
    excerpt stands for a question that is too long for it."""
    fits = embedder.fits
    alone = [excerpt(question, fits) for _, question in asked]
    whole = [joined(turns, own, fits) for (turns, _), own in zip(asked, alone, strict=True)]
    texts = list(dict.fromkeys([*alone, *whole]))
    row = {text: i for i, text in enumerate(texts)}
    vectors = embedder.embed(texts)
    own = vectors[[row[text] for text in alone]]
    mean = own + vectors[[row[text] for text in whole]]
    follows = np.array([a != w for a, w in zip(alone, whole, strict=True)], np.bool_)
    own[follows] = mean[follows] / np.linalg.norm(mean[follows], axis=1, keepdims=True)
    return own
