"""From what the stages say to what an answer tells: the order of its sources, what was not used
whole, and the client's name for what was wrong."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from actors.errors import RequestError
from actors.messages import Cut, Found, RerankResult
from cluster.query import Retrieval, Source

_FIELDS_OF_A_QUESTION = ("query", "messages")


def order(
    found: Sequence[Found], log_likelihoods: Sequence[float], dense_weight: float
) -> list[tuple[int, Source]]:
    """Best first by log-likelihood + dense_weight x cosine, with their places in `found`; equal
    scores keep their order."""
    sources = [
        Source(
            hit.passage,
            hit.score,
            likelihood,
            likelihood + dense_weight * hit.score,
            hit.neighbours,
        )
        for hit, likelihood in zip(found, log_likelihoods, strict=True)
    ]
    return sorted(enumerate(sources), key=lambda pair: -pair[1].score)


def together(ranked: Sequence[Cut], used: Sequence[Cut]) -> tuple[Cut, ...]:
    """Cuts of sources, of either stage: what the generator has cut counts."""
    cuts = {cut.index: cut for cut in (*ranked, *used)}
    return tuple(cuts[index] for index in sorted(cuts))


def shortened(retrieval: Retrieval, ranking: RerankResult) -> tuple[int, int] | None:
    """See `Truncated.question`."""
    num = retrieval.num_chars or len(retrieval.question)
    kept = ranking.excerpt_chars or len(retrieval.question)
    return (num, kept) if kept < num else None


@contextmanager
def in_field(retrieval: Retrieval | None) -> Iterator[None]:
    """What is wrong with a question is wrong with the client's field, whatever it is called in a
    deployment."""
    try:
        yield
    except RequestError as error:
        if retrieval is None or error.field not in _FIELDS_OF_A_QUESTION:
            raise
        raise type(error)(retrieval.field, error.message) from error
