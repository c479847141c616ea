"""What joining the user's last turns finds: the second question of a conversation says "it".

A hundred conversations of two questions on one passage. Each is searched for and reranked as the
service does it, by the last turn alone and by the joined turns, in one run; the three best go to
the generator. `gain` is in the share of conversations with the right document among them. The rows
have, by cosine alone, conversations in which the topic changed: before the two questions, where a
third turn is of another topic, and with the last question, which then names its own.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from actors.conversation import joined
from actors.engine.asking import Ask
from actors.engine.config import ModelConfig, RerankerConfig
from actors.engine.rerank import RerankEngine
from actors.messages import RerankResult
from actors.passages import PassageSplitter
from actors.retrieval.asked import vectors_of
from actors.retrieval.config import RetrievalConfig
from actors.retrieval.embedding import Embedder, Vectors
from tests.bench.engines import bench
from tests.bench.harness import Options, Result, tracked
from tests.bench.multi_turn.conversations import Talk, Talks, make_talks
from tests.bench.ranking import Floats, bootstrap, found

TOP_K = 3
MOST_TURNS = 3
Turns = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """Candidates of each conversation, best cosine first; [q, n]."""

    texts: list[list[str]]
    right: np.ndarray[Any, np.dtype[np.bool_]]
    cosine: Floats


class Searching:
    """Passages of the documents, embedded once."""

    def __init__(self, talks: Talks, tokenizer: Any, config: RetrievalConfig) -> None:
        splitter = PassageSplitter(tokenizer, config.passage_tokens)
        self.passages = [
            (name, text[span.start : span.end])
            for name, text in talks.documents.items()
            for span in splitter.split(text)
        ]
        self._top_n = config.top_n
        self._embedder = Embedder(config.embedder, config.embed_batch)
        self._vectors = self._embedder.embed([text for _, text in self.passages])

    def search(self, asked: Sequence[Turns], talks: Sequence[Talk]) -> Found:
        """`asked` are the turns that are searched for, the last one last."""
        return self._nearest(
            vectors_of([(turns[:-1], turns[-1]) for turns in asked], self._embedder), talks
        )

    def search_joined(self, asked: Sequence[Turns], talks: Sequence[Talk]) -> Found:
        """By the joined turns alone, as if the last did not count by itself."""
        texts = [joined(turns[:-1], turns[-1], self._embedder.fits) for turns in asked]
        return self._nearest(self._embedder.embed(texts), talks)

    def _nearest(self, vectors: Vectors, talks: Sequence[Talk]) -> Found:
        similar = vectors @ self._vectors.T
        top = np.argsort(-similar, axis=1, kind="stable")[:, : self._top_n]
        rows = [[self.passages[n] for n in row] for row in top]
        right = [
            [name == talk.document for name, _ in row]
            for row, talk in zip(rows, talks, strict=True)
        ]
        cosine = np.take_along_axis(similar, top, axis=1).astype(np.float64)
        return Found([[text for _, text in row] for row in rows], np.array(right, np.bool_), cosine)


def run(options: Options) -> Result:
    config = RetrievalConfig()
    talks = make_talks(20 if options.quick else 100, options.seed)
    kinds = _kinds(talks.talks, options.seed)
    with bench(ModelConfig()) as parts:
        searching = Searching(talks, parts.tokenizer, config)
        engine = parts.reranker()
        (alone, both), (new_alone, new_both) = (
            [
                _served(searching, engine, talks, [turns[-num:] for turns in kinds[kind]])
                for num in (1, config.history_turns)
            ]
            for kind in ("two questions", "a new topic")
        )
    gain, low, _ = bootstrap(both - alone, options.seed)
    figures = {
        "conversations": len(talks.talks),
        "hit3_last_turn": float(alone.mean()),
        "hit3_joined": float(both.mean()),
        "gain": gain,
        "gain_low": low,
        "new_topic_hit3_last_turn": float(new_alone.mean()),
        "new_topic_hit3_joined": float(new_both.mean()),
    }
    facts = {"data": talks.source, "documents": len(talks.documents), "top_n": config.top_n}
    facts |= {"passages": len(searching.passages), "history_turns": config.history_turns}
    facts |= {"model": asdict(ModelConfig()), "dense_weight": RerankerConfig().dense_weight}
    rows = _by_cosine(searching, talks.talks, kinds)
    return Result(facts, {name: round(value, 4) for name, value in figures.items()}, rows)


def _served(
    searching: Searching, engine: RerankEngine, talks: Talks, asked: Sequence[Turns]
) -> Floats:
    """[q]: 1 where the right document is among the three best of search and reranking."""
    hits = searching.search(asked, talks.talks)
    pairs = list(zip(asked, hits.texts, strict=True))
    scores = [_scores(engine, turns, texts) for turns, texts in tracked(pairs, "reranking")]
    weighted = np.array(scores) + RerankerConfig().dense_weight * hits.cosine
    return found(hits.right, weighted, TOP_K)


def _scores(engine: RerankEngine, turns: Turns, texts: Sequence[str]) -> tuple[float, ...]:
    ask = Ask(turns[-1], texts, time.monotonic() + 600, earlier=turns[:-1])
    ((_, outcome),) = engine.score_batch("bench", [ask])
    if not isinstance(outcome, RerankResult):
        raise outcome
    return outcome.log_likelihoods


def _kinds(talks: Sequence[Talk], seed: int) -> dict[str, list[Turns]]:
    rng = random.Random(seed)
    others = [rng.choice([o for o in talks if o.document != t.document]) for t in talks]
    pairs = list(zip(talks, others, strict=True))
    return {
        "two questions": [(t.first, t.second) for t in talks],
        "another topic before": [(o.named, t.first, t.second) for t, o in pairs],
        "a new topic": [(o.first, o.named, t.named) for t, o in pairs],
    }


def _by_cosine(
    searching: Searching, talks: Sequence[Talk], kinds: dict[str, list[Turns]]
) -> list[dict[str, Any]]:
    """Share found by cosine, for every number of turns, as the service searches and as by the
    joined turns alone."""
    rows = []
    for kind, said in kinds.items():
        row: dict[str, Any] = {"by cosine alone": kind}
        for num in range(1, MOST_TURNS + 1):
            asked = [turns[-num:] for turns in said]
            row[f"{num} turns"] = _share(searching.search(asked, talks))
            row[f"{num} turns, joined alone"] = _share(searching.search_joined(asked, talks))
        rows.append(row)
    return rows


def _share(hits: Found) -> float:
    return round(float(found(hits.right, hits.cosine, TOP_K).mean()), 4)
