"""SQuAD and MuSiQue: questions, and candidates from the real splitter, embedder and cosine."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.engine.rerank import RerankEngine
from actors.passages import PassageSplitter
from actors.retrieval.config import RetrievalConfig
from actors.retrieval.embedding import Embedder
from tests.bench.harness import paired, read_jsonl, shared_data, tracked


@dataclass(frozen=True, slots=True)
class Asked:
    question: str
    documents: frozenset[str]
    """A passage of one of these is right."""
    answers: tuple[str, ...]
    in_passage: bool = False
    """Right only where the passage holds an answer literally."""

    def is_right(self, document_id: str, text: str) -> bool:
        holds = not self.in_passage or any(a.lower() in text.lower() for a in self.answers)
        return document_id in self.documents and holds


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates of each question, best cosine first: texts [q][n], whether each is right and its
    cosine [q, n]."""

    asked: list[Asked]
    texts: list[list[str]]
    right: NDArray[np.bool_]
    cosine: NDArray[np.float64]

    def cut(self, num_candidates: int) -> "Pool":
        n = num_candidates
        texts = [row[:n] for row in self.texts]
        return Pool(self.asked, texts, self.right[:, :n], self.cosine[:, :n])

    def head(self, num_questions: int) -> "Pool":
        """The same for the first questions."""
        q = num_questions
        return replace(
            self,
            asked=self.asked[:q],
            texts=self.texts[:q],
            right=self.right[:q],
            cosine=self.cosine[:q],
        )

    def distinct_texts(self) -> list[str]:
        return list(dict.fromkeys(text for row in self.texts for text in row))

    def rerank(self, engine: RerankEngine, what: str = "reranking") -> NDArray[np.float64]:
        """Log-likelihoods [q, n]."""
        pairs = list(zip(self.asked, self.texts, strict=True))
        scored = [
            engine.score("bench", asked.question, texts, timeout_s=600).log_likelihoods
            for asked, texts in tracked(pairs, what)
        ]
        return np.array(scored)


class Corpus:
    """All passages of both data sets, embedded once. Raises CannotRun where one is absent."""

    def __init__(self, tokenizer: Any) -> None:
        config = RetrievalConfig()
        splitter = PassageSplitter(tokenizer, config.passage_tokens)
        documents = _documents()
        self.num_documents = len(documents)
        self.passages = [
            (key, text[span.start : span.end])
            for key, text in documents
            for span in splitter.split(text)
        ]
        self._embedder = Embedder(config.embedder, config.embed_batch)
        self._vectors = self._embedder.embed([text for _, text in self.passages])

    def retrieve(self, asked: Sequence[Asked], top_n: int) -> Pool:
        similar = self._embedder.embed([one.question for one in asked]) @ self._vectors.T
        top = np.argsort(-similar, axis=1, kind="stable")[:, :top_n]
        found = [[self.passages[n] for n in row] for row in top]
        right = [
            [one.is_right(*passage) for passage in row]
            for one, row in zip(asked, found, strict=True)
        ]
        return Pool(
            asked=list(asked),
            texts=[[text for _, text in row] for row in found],
            right=np.array(right, dtype=np.bool_),
            cosine=np.take_along_axis(similar, top, axis=1).astype(np.float64),
        )


def seconds_in_turn(
    off: RerankEngine, on: RerankEngine, pool: Pool, num_off: int, num_on: int
) -> tuple[list[float], list[float]]:
    """Of reranking each question's first so many candidates, by the one engine and the other."""

    def timed(engine: RerankEngine, num: int) -> Callable[[], float]:
        pairs = zip(pool.asked, pool.texts, strict=True)

        def one() -> float:
            asked, texts = next(pairs)
            start = time.perf_counter()
            engine.score("bench", asked.question, texts[:num], timeout_s=600)
            return time.perf_counter() - start

        return one

    return paired(timed(off, num_off), timed(on, num_on), len(pool.asked))


def squad_questions(num: int, seed: int) -> list[Asked]:
    """Answerable ones, drawn at random."""
    lines = read_jsonl(shared_data("squad") / "questions.jsonl")
    drawn = random.Random(seed).sample([q for q in lines if q["answers"]], num)
    return [Asked(q["question"], frozenset([q["passage_id"]]), tuple(q["answers"])) for q in drawn]


def musique_questions(num: int) -> list[Asked]:
    """A context of the question that holds its answer counts as right."""
    lines = read_jsonl(shared_data("musique") / "questions.jsonl")
    return [
        Asked(q["question"], frozenset(q["context_ids"]), tuple(q["answers"]), in_passage=True)
        for q in lines[:num]
    ]


def _documents() -> list[tuple[str, str]]:
    """(id, text)."""
    found = []
    for name in ("squad", "musique"):
        for line in read_jsonl(shared_data(name) / "passages.jsonl"):
            found.append((str(line["id"]), str(line["text"])))
    return found
