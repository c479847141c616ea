"""Asking each question twice and timing what a user sees."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from hyperrag.client import Client
from hyperrag.demo.corpus import COLLECTION, Question
from hyperrag.results import Answer, CacheReport

TOP = 3


@dataclass(frozen=True, slots=True)
class Reply:
    answer: Answer
    ttft_ms: float
    """From sending the request to the first piece of the answer, at the client."""

    @property
    def rerank_ms(self) -> float:
        return self.answer.timings_ms["rerank"]

    @property
    def rerank_cache(self) -> CacheReport:
        return self.answer.cache["rerank"]

    @property
    def hit_rate(self) -> float:
        """Of the candidates' segments, those that were not computed for this request."""
        report = self.rerank_cache
        return report.hits / max(1, report.hits + report.computed)

    @property
    def tokens_reused(self) -> int:
        """Of passages and prompt, while reranking and while answering."""
        return sum(self.answer.cache[stage].tokens_reused for stage in ("rerank", "generate"))


@dataclass(frozen=True, slots=True)
class Asked:
    question: Question
    expected: frozenset[str]
    cold: Reply
    warm: Reply

    @property
    def found(self) -> bool:
        """Whether a topic that answers the question is among the first three sources."""
        sources = self.warm.answer.sources[:TOP]
        return any(source.document_id in self.expected for source in sources)

    @property
    def same_answer(self) -> bool:
        return self.cold.answer.answer == self.warm.answer.answer


def ask_twice(
    client: Client,
    questions: Sequence[Question],
    texts: Mapping[str, str],
    on_reply: Callable[[], None],
) -> list[Asked]:
    """All questions over an empty store, then all of them again. Raises HyperRagError."""
    rounds: list[list[Reply]] = []
    for _ in ("cold", "warm"):
        replies = []
        for question in questions:
            replies.append(_ask(client, question.text))
            on_reply()
        rounds.append(replies)
    return [
        Asked(question, question.topics(texts), cold, warm)
        for question, cold, warm in zip(questions, *rounds, strict=True)
    ]


def _ask(client: Client, text: str) -> Reply:
    start = perf_counter()
    first: float | None = None
    answer: Answer | None = None
    for piece in client.ask_stream(text, collection=COLLECTION):
        first = first or perf_counter()
        if isinstance(piece, Answer):
            answer = piece
    assert answer is not None and first is not None, "the stream ended without an answer"
    return Reply(answer, (first - start) * 1000)
