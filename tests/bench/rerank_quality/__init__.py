"""What reranking adds to retrieval: SQuAD and MuSiQue passages, 200 SQuAD questions.

A source is right when it is a passage of the question's document. The figures are of the top 20 by
cosine, the curve of the top 5 to 100 of the same lists. For the curve's seconds, HyperRAG (warm)
and the traditional service (`reuse: off`) take turns over a sample of the questions. The weight of
the cosine is fitted for each half of the questions on the other half.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from actors.engine.config import ModelConfig, PromptConfig, RerankerConfig
from actors.fusion import fit_weight
from tests.bench.engines import bench
from tests.bench.harness import Options, Result
from tests.bench.pool import Corpus, Pool, musique_questions, squad_questions
from tests.bench.ranking import Floats, bootstrap, first, fused, reciprocal_rank, row
from tests.bench.rerank_quality import curve
from tests.bench.rerank_quality.templates import other_templates

TOP_N = 20
"""What the figures are of; the curve goes up to MOST."""
MOST = 100

WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)


def run(options: Options) -> Result:
    timed = 2 if options.quick else 6
    with bench(ModelConfig()) as parts:
        corpus = Corpus(parts.tokenizer)
        wide = corpus.retrieve(squad_questions(40 if options.quick else 200, options.seed), MOST)
        wide_scores = wide.rerank(parts.reranker())
        curve_rows = curve.measure(parts, wide, wide_scores, timed, options.seed)
        squad, scores = wide.cut(TOP_N), wide_scores[:, :TOP_N]
        musique = corpus.retrieve(musique_questions(20 if options.quick else 100), TOP_N)
        musique_scores = musique.rerank(parts.reranker())
        template_rows = other_templates(parts, squad, scores)
    figures = _figures(squad, scores, options.seed)
    figures |= {
        "n_passages": len(corpus.passages),
        "musique_r1_dense": float(first(musique.right, musique.cosine).mean()),
        "musique_r1_rerank": float(first(musique.right, musique_scores).mean()),
    }
    rows = [row("cosine alone", squad.right, squad.cosine)]
    rows += [
        row(f"default, + {w} x cosine", squad.right, scores + w * squad.cosine) for w in WEIGHTS
    ]
    rows.append(_fit_row(squad, scores, options.seed))
    config: dict[str, Any] = {"model": asdict(ModelConfig()), "prompt": asdict(PromptConfig())}
    config |= {"dense_weight": RerankerConfig().dense_weight, "top_n": TOP_N}
    config |= {"documents": corpus.num_documents, "timed_questions": timed}
    artifacts = []
    if options.json_path:
        picture = Path(options.json_path).with_suffix(".png")
        curve.draw(curve_rows, picture)
        artifacts.append(picture.name)
    rounded = {name: round(value, 4) for name, value in figures.items()}
    return Result(config, rounded, rows + template_rows + curve_rows, artifacts)


def _figures(pool: Pool, scores: Floats, seed: int) -> dict[str, float]:
    dense, reranked = first(pool.right, pool.cosine), first(pool.right, scores)
    found = float(pool.right.any(axis=1).mean())
    gain, low, _ = bootstrap(reranked - dense, seed)
    return {
        "n_questions": len(pool.asked),
        "mrr10_dense": float(reciprocal_rank(pool.right, pool.cosine).mean()),
        "mrr10_rerank": float(reciprocal_rank(pool.right, scores).mean()),
        "r1_dense": float(dense.mean()),
        "r1_rerank": float(reranked.mean()),
        "r1_fused": float(first(pool.right, _fused(pool, scores, seed)).mean()),
        "r20_dense": found,
        "r1_gain": gain,
        "r1_gain_low": low,
        "gap_closed": gain / max(found - float(dense.mean()), 1e-9),
    }


def _fused(pool: Pool, scores: Floats, seed: int) -> Floats:
    return fused(scores, pool.cosine, pool.right, seed)


def _fit_row(pool: Pool, scores: Floats, seed: int) -> dict[str, Any]:
    fit = fit_weight(scores, pool.cosine, pool.right, seed=seed)
    found = f"on all {fit.best:.2f}, MRR {fit.gain:+.3f} [{fit.low:+.3f}, {fit.high:+.3f}]"
    name = f"default, + w x cosine, w of the other half ({found})"
    return row(name, pool.right, _fused(pool, scores, seed))
