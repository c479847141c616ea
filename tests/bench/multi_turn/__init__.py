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
from actors.retrieval.config import RetrievalConfig
from actors.retrieval.embedding import Embedder
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
        """`asked` are the turns that are joined, the last one last."""
        texts = [joined(turns[:-1], turns[-1], self._embedder.fits) for turns in asked]
        similar = self._embedder.embed(texts) @ self._vectors.T
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
    said: list[Turns] = [(talk.first, talk.second) for talk in talks.talks]
    with bench(ModelConfig()) as parts:
        searching = Searching(talks, parts.tokenizer, config)
        engine = parts.reranker()
        alone = _served(searching, engine, talks, [turns[-1:] for turns in said])
        both = _served(searching, engine, talks, [turns[-config.history_turns :] for turns in said])
    gain, low, _ = bootstrap(both - alone, options.seed)
    figures = {
        "conversations": len(said),
        "hit3_last_turn": float(alone.mean()),
        "hit3_joined": float(both.mean()),
        "gain": gain,
        "gain_low": low,
    }
    facts = {"data": talks.source, "documents": len(talks.documents), "top_n": config.top_n}
    facts |= {"passages": len(searching.passages), "history_turns": config.history_turns}
    facts |= {"model": asdict(ModelConfig()), "dense_weight": RerankerConfig().dense_weight}
    rows = _by_cosine(searching, talks, options.seed)
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


def _by_cosine(searching: Searching, talks: Talks, seed: int) -> list[dict[str, Any]]:
    """Share found by cosine, for every number of turns that are joined."""
    rng, those = random.Random(seed), talks.talks
    others = [rng.choice([o for o in those if o.document != t.document]) for t in those]
    kinds: dict[str, list[Turns]] = {
        "two questions": [(t.first, t.second) for t in those],
        "another topic before": [
            (o.named, t.first, t.second) for t, o in zip(those, others, strict=True)
        ],
        "a new topic": [(o.first, o.named, t.named) for t, o in zip(those, others, strict=True)],
    }
    rows = []
    for kind, said in kinds.items():
        row: dict[str, Any] = {"by cosine alone": kind}
        for num in range(1, MOST_TURNS + 1):
            hits = searching.search([turns[-num:] for turns in said], those)
            share = found(hits.right, hits.cosine, TOP_K).mean()
            row[f"{num} turns joined"] = round(float(share), 4)
        rows.append(row)
    return rows
