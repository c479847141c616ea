"""What fine-tuning adds: trained on two SQuAD articles, measured on the questions of the third.

The questions are those of `rerank_quality`, the pool is all passages of SQuAD and MuSiQue, whole;
the top 20 and the top 50 by cosine are reranked by the engine that serves. The weight of the cosine
is fitted on questions of the training articles that were not trained on, never on those that are
measured.
"""

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.engine.config import ModelConfig, PromptConfig
from actors.retrieval.config import RetrievalConfig
from actors.retrieval.embedding import Embedder
from actors.training.config import TrainingConfig
from actors.training.data import Question, make_examples
from actors.training.history import History
from actors.training.negatives import nearest
from actors.training.train import train
from tests.bench.engines import bench
from tests.bench.harness import CannotRun, Options, Result, read_jsonl, shared_data, tracked
from tests.bench.pool import squad_questions

FOLDS = ("normans", "victoria", "complexity")
FEW, MANY = 20, 50
"""Candidates by cosine that are reranked."""
NUM_QUESTIONS = 200
FITTED = 60
"""Questions that the weight of the cosine is fitted on."""
WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
SHARPNESS = (1.0, 2.0, 4.0, 8.0, 16.0)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Asked:
    text: str
    passage_id: str
    answerable: bool

    @property
    def article(self) -> str:
        return self.passage_id.rsplit("-", 1)[0]


@dataclass(frozen=True, slots=True)
class Ranked:
    """Candidates of some questions, nearest first: whether right, cosines, scores [q, n]."""

    right: NDArray[np.bool_]
    cosine: Floats
    zero_shot: Floats
    tuned: Floats


@dataclass(frozen=True, slots=True)
class Corpus:
    passages: dict[str, str]
    asked: list[Asked]
    measured: list[Asked]
    embedder: Embedder


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folds", default=",".join(FOLDS), help="articles to measure on")
    parser.add_argument("--models", default="trained", help="folder of the models; runs go on")
    parser.add_argument("--questions", type=int, default=320, help="questions to train on")
    parser.add_argument("--learning-rate", type=float, default=TrainingConfig().learning_rate)
    parser.add_argument("--temperature", type=float, default=TrainingConfig().temperature)
    parser.add_argument("--negatives", type=int, default=TrainingConfig().negatives)
    parser.add_argument("--batch-questions", type=int, default=TrainingConfig().batch_questions)
    parser.add_argument("--epochs", type=int, default=1)


def run(options: Options) -> Result:
    folds = [fold for fold in options.own.folds.split(",") if fold]
    if not folds or set(folds) - set(FOLDS):
        raise CannotRun(f"--folds is {options.own.folds}, allowed are {', '.join(FOLDS)}")
    config = TrainingConfig(
        epochs=options.own.epochs,
        learning_rate=options.own.learning_rate,
        temperature=options.own.temperature,
        negatives=options.own.negatives,
        batch_questions=options.own.batch_questions,
        held_out_share=0.08,
        checkpoint_steps=5,
        seed=options.seed,
    )
    corpus = _corpus(options.seed)
    num = 40 if options.quick else options.own.questions
    rows, counts = [], []
    for fold in folds:
        out = Path(options.own.models) / f"{fold}-{options.seed}"
        row, count = _fold(corpus, fold, config, num, out, options.quick)
        out.with_suffix(".json").write_text(json.dumps({"config": asdict(config)} | row, indent=1))
        rows.append(row)
        counts.append(count)
    total = sum(counts)
    over_many = [f"{key}_{MANY}" for key in _RERANKED]
    keys = ["r1_dense", "r20_dense", "r50_dense", *_RERANKED, *over_many]
    figures = {"n_questions": float(total), "n_passages": float(len(corpus.passages))}
    for key in keys:
        figures[key] = sum(row[key] * n for row, n in zip(rows, counts, strict=True)) / total
    facts: dict[str, Any] = {"model": asdict(ModelConfig()), "training": asdict(config)}
    return Result(facts | {"trained_on": num}, {k: round(v, 4) for k, v in figures.items()}, rows)


def _corpus(seed: int) -> Corpus:
    passages = {
        str(line["id"]): str(line["text"])
        for name in ("squad", "musique")
        for line in read_jsonl(shared_data(name) / "passages.jsonl")
    }
    lines = read_jsonl(shared_data("squad") / "questions.jsonl")
    asked = [Asked(q["question"], q["passage_id"], bool(q["answers"])) for q in lines]
    drawn = {one.question for one in squad_questions(NUM_QUESTIONS, seed)}
    measured = [q for q in asked if q.answerable and q.text in drawn]
    retrieval = RetrievalConfig()
    return Corpus(passages, asked, measured, Embedder(retrieval.embedder, retrieval.embed_batch))


def _fold(
    corpus: Corpus, fold: str, config: TrainingConfig, num: int, out: Path, quick: bool
) -> tuple[dict[str, Any], int]:
    """Its row, and how many questions were measured."""
    others = [q for q in corpus.asked if q.article != fold]
    random.Random(config.seed).shuffle(others)
    others.sort(key=lambda q: not q.answerable)  # the answerable first: a stable sort
    fitted, trained = others[:FITTED], others[FITTED : FITTED + num]
    measured = [q for q in corpus.measured if q.article == fold]
    if quick:
        fitted, measured = fitted[:10], measured[:10]
    history = _train(corpus, trained, fold, config, out)
    ranked = _rank(corpus, [*fitted, *measured], out)
    before, after = _cut(ranked, slice(len(fitted))), _cut(ranked, slice(len(fitted), None))
    few = [_top(ranked, FEW) for ranked in (before, after)]
    figures = {
        "r1_dense": _r1(after, after.cosine),
        "r20_dense": float(few[1].right.any(1).mean()),
        "r50_dense": float(after.right.any(1).mean()),
        **_reranked(*few),
        **{f"{key}_{MANY}": value for key, value in _reranked(before, after).items()},
        "held_out_mrr_before": history.held_out[0].mrr,
        "held_out_mrr_after": history.held_out[-1].mrr,
        "training_s": history.seconds,
    }
    row = {"measured_on": fold, "n": len(measured)}
    return row | {key: round(value, 4) for key, value in figures.items()}, len(measured)


_RERANKED = ("r1_rerank", "r1_fused_zero_shot", "r1_finetuned_alone", "r1_finetuned")


def _reranked(before: Ranked, after: Ranked) -> dict[str, float]:
    """R@1 with the weights that suit `before`, and these."""
    weights = [_fit(before, before.zero_shot), _fit(before, before.tuned)]
    return {
        "r1_rerank": _r1(after, after.zero_shot),
        "r1_fused_zero_shot": _r1(after, after.zero_shot + weights[0] * after.cosine),
        "r1_finetuned_alone": _r1(after, after.tuned),
        "r1_finetuned": _r1(after, after.tuned + weights[1] * after.cosine),
        "weight_zero_shot": weights[0],
        "weight_finetuned": weights[1],
    }


def _train(
    corpus: Corpus, asked: Sequence[Asked], fold: str, config: TrainingConfig, out: Path
) -> History:
    """On passages of the other articles alone: nothing of the measured one is seen."""
    ids = [key for key in corpus.passages if not key.startswith(f"{fold}-")]
    articles = tuple(f for f in FOLDS if f != fold)
    ids = [key for key in ids if key.startswith(articles)]
    places = {key: place for place, key in enumerate(ids)}
    examples = make_examples(
        [corpus.passages[key] for key in ids],
        [Question(q.text, places[q.passage_id]) for q in asked],
    )

    def shown(step: int, steps: int, history: History) -> None:
        print(f"{fold}: step {step} of {steps}", *history.losses[-1:], flush=True)

    return train(
        ModelConfig(), PromptConfig(), corpus.embedder, examples, config, out, shown
    ).history


def _rank(corpus: Corpus, asked: Sequence[Asked], tuned: Path) -> Ranked:
    keys = list(corpus.passages)
    texts = list(corpus.passages.values())
    questions = [q.text for q in asked]
    top, cosine = nearest(corpus.embedder, questions, texts, MANY)
    scores = []
    for model in (ModelConfig(), replace(ModelConfig(), source=str(tuned))):
        with bench(model) as parts:
            engine = parts.reranker()
            pairs = list(zip(questions, top, strict=True))
            scores.append(
                [
                    engine.score("bench", text, [texts[i] for i in row], 600).log_likelihoods
                    for text, row in tracked(pairs, f"reranking with {model.source}")
                ]
            )
    right = [[keys[i] == q.passage_id for i in row] for q, row in zip(asked, top, strict=True)]
    return Ranked(np.array(right), cosine.astype(float), *(np.array(s) for s in scores))


def _top(ranked: Ranked, num: int) -> Ranked:
    """The first candidates alone."""
    return Ranked(*(values[:, :num] for values in astuple(ranked)))


def _cut(ranked: Ranked, rows: slice) -> Ranked:
    return Ranked(
        ranked.right[rows], ranked.cosine[rows], ranked.zero_shot[rows], ranked.tuned[rows]
    )


def _fit(ranked: Ranked, scores: Floats) -> float:
    """The weight under which the right candidates are likeliest, by a softmax of any sharpness."""
    found = ranked.right.any(1)
    rows, places = np.arange(found.sum()), ranked.right[found].argmax(1)

    def likelihood(weight: float, sharpness: float) -> float:
        z = sharpness * (scores + weight * ranked.cosine)[found]
        z -= z.max(1, keepdims=True)
        return float((z[rows, places] - np.log(np.exp(z).sum(1))).mean())

    return max((likelihood(w, s), w) for w in WEIGHTS for s in SHARPNESS)[1]


def _r1(ranked: Ranked, scores: Floats) -> float:
    best = scores.argmax(1)
    return float(ranked.right[np.arange(len(best)), best].mean())
