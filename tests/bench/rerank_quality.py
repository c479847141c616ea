"""What reranking adds to retrieval: SQuAD and MuSiQue passages, 200 SQuAD questions, top 20.

Retrieval goes through the real splitter, embedder and FAISS index; a source is right when it is a
passage of the question's document.
"""

import copy
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.engine.config import ModelConfig, PromptConfig, RerankerConfig
from actors.engine.prompt import Prompt
from actors.engine.rerank import RerankEngine
from actors.retrieval.config import RetrievalConfig
from actors.retrieval.embedding import Embedder
from actors.retrieval.passages import PassageSplitter
from tests.bench.engines import Bench, bench
from tests.bench.harness import Options, Result, read_jsonl, shared_data, tracked

TOP_N = 20

WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)

OTHER_QUESTIONS = 80
"""Templates are compared over the first so many of the questions."""

DEFAULT = PromptConfig()
OTHER_TEMPLATES = {
    "chat, the model's own system message": replace(DEFAULT, system=""),
    "chat, no instruction": replace(DEFAULT, rerank_instruction=""),
    "plain, instruction": replace(DEFAULT, system=""),
    "plain, no instruction": replace(DEFAULT, system="", rerank_instruction=""),
}


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidates of each question: texts [q][n], whether each is right and its cosine [q, n]."""

    questions: list[str]
    texts: list[list[str]]
    right: NDArray[np.bool_]
    cosine: NDArray[np.float64]
    num_passages: int


def run(options: Options) -> Result:
    documents = _documents()
    questions = _squad_questions(40 if options.quick else 200, options.seed)
    weight = RerankerConfig().dense_weight
    with bench(ModelConfig()) as parts:
        passages = _split(parts, documents)
        squad = _retrieve(questions, passages)
        scores = _rerank(parts.reranker(), squad)
        musique = _retrieve(_musique_questions(20 if options.quick else 100), passages)
        musique_scores = _rerank(parts.reranker(), musique)
        few = _head(squad, OTHER_QUESTIONS)
        others = {
            name: _rerank(parts.reranker(prompt=_prompt(parts, name)), few, name)
            for name in OTHER_TEMPLATES
        }
    dense, reranked = _first(squad, squad.cosine), _first(squad, scores)
    r20 = float(squad.right.any(1).mean())
    gain, low = _bootstrap(reranked - dense, options.seed)
    rows = [_row("cosine alone", squad, squad.cosine)]
    rows += [_row(f"default, + {w} x cosine", squad, scores + w * squad.cosine) for w in WEIGHTS]
    others = {"default": scores[:OTHER_QUESTIONS]} | others
    for name, other in others.items():
        rows.append(_row(f"{name} (first {len(other)})", few, other))
        fused = other + weight * few.cosine
        rows.append(_row(f"{name}, + {weight} x cosine (first {len(other)})", few, fused))
    figures = {
        "n_questions": len(squad.questions),
        "n_passages": squad.num_passages,
        "mrr10_dense": _mrr(squad, squad.cosine),
        "mrr10_rerank": _mrr(squad, scores),
        "r1_dense": float(dense.mean()),
        "r1_rerank": float(reranked.mean()),
        "r1_fused": float(_first(squad, scores + weight * squad.cosine).mean()),
        "r20_dense": r20,
        "r1_gain": gain,
        "r1_gain_low": low,
        "gap_closed": gain / max(r20 - float(dense.mean()), 1e-9),
        "musique_r1_dense": float(_first(musique, musique.cosine).mean()),
        "musique_r1_rerank": float(_first(musique, musique_scores).mean()),
    }
    config: dict[str, Any] = {"model": asdict(ModelConfig()), "prompt": asdict(PromptConfig())}
    config |= {"dense_weight": weight, "top_n": TOP_N, "documents": len(documents)}
    return Result(config, {k: round(v, 4) for k, v in figures.items()}, rows)


def _documents() -> list[tuple[str, str]]:
    found = []
    for name in ("squad", "musique"):
        for line in read_jsonl(shared_data(name) / "passages.jsonl"):
            found.append((str(line["id"]), str(line["text"])))
    return found


def _squad_questions(num: int, seed: int) -> list[tuple[str, set[str], list[str]]]:
    """(question, ids of right documents, answers); answerable ones only."""
    lines = read_jsonl(shared_data("squad") / "questions.jsonl")
    asked = [q for q in lines if q["answers"]]
    drawn = random.Random(seed).sample(asked, num)
    return [(q["question"], {q["passage_id"]}, []) for q in drawn]


def _musique_questions(num: int) -> list[tuple[str, set[str], list[str]]]:
    """A context of the question that holds its answer counts as right."""
    lines = read_jsonl(shared_data("musique") / "questions.jsonl")
    return [(q["question"], set(q["context_ids"]), q["answers"]) for q in lines[:num]]


def _split(parts: Bench, documents: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    splitter = PassageSplitter(parts.tokenizer, RetrievalConfig().passage_tokens)
    return [(key, text[s.start : s.end]) for key, text in documents for s in splitter.split(text)]


def _retrieve(
    questions: Sequence[tuple[str, set[str], list[str]]], passages: Sequence[tuple[str, str]]
) -> Pool:
    config = RetrievalConfig()
    embedder = Embedder(config.embedder, config.embed_batch)
    vectors = embedder.embed([text for _, text in passages])
    similar = embedder.embed([question for question, _, _ in questions]) @ vectors.T
    top = np.argsort(-similar, axis=1, kind="stable")[:, :TOP_N]
    right = np.zeros(top.shape, dtype=bool)
    for i, (_, gold, answers) in enumerate(questions):
        for j, n in enumerate(top[i]):
            key, text = passages[n]
            holds = not answers or any(a.lower() in text.lower() for a in answers)
            right[i, j] = key in gold and holds
    return Pool(
        questions=[question for question, _, _ in questions],
        texts=[[passages[n][1] for n in row] for row in top],
        right=right,
        cosine=np.take_along_axis(similar, top, axis=1).astype(np.float64),
        num_passages=len(passages),
    )


def _prompt(parts: Bench, template: str) -> Prompt:
    """Another prompt; a plain one stands outside the model's chat template."""
    tokenizer = parts.tokenizer
    if template.startswith("plain"):
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.chat_template = None
    return Prompt(tokenizer, OTHER_TEMPLATES[template])


def _rerank(engine: RerankEngine, pool: Pool, what: str = "reranking") -> NDArray[np.float64]:
    pairs = list(zip(pool.questions, pool.texts, strict=True))
    scored = [
        engine.score("bench", question, texts, timeout_s=600).log_likelihoods
        for question, texts in tracked(pairs, what)
    ]
    return np.array(scored)


def _head(pool: Pool, num: int) -> Pool:
    """The same for the first questions."""
    return replace(
        pool,
        questions=pool.questions[:num],
        texts=pool.texts[:num],
        right=pool.right[:num],
        cosine=pool.cosine[:num],
    )


def _ordered(pool: Pool, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(pool.right, order, axis=1)


def _first(pool: Pool, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return _ordered(pool, scores)[:, 0].astype(np.float64)


def _mrr(pool: Pool, scores: NDArray[np.float64]) -> float:
    right = _ordered(pool, scores)[:, :10]
    ranks = right.argmax(axis=1) + 1
    return float(np.where(right.any(axis=1), 1 / ranks, 0).mean())


def _row(name: str, pool: Pool, scores: NDArray[np.float64]) -> dict[str, Any]:
    r1, mrr = float(_first(pool, scores).mean()), _mrr(pool, scores)
    return {"order": name, "r1": round(r1, 4), "mrr10": round(mrr, 4)}


def _bootstrap(gains: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Mean gain and the lower end of its 95 % bootstrap interval over questions."""
    rng = np.random.default_rng(seed)
    draws = rng.choice(gains, size=(10_000, len(gains))).mean(axis=1)
    return float(gains.mean()), float(np.quantile(draws, 0.025))
