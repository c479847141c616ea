"""How near fusion comes to full attention: selection rules, ratios, raw and fused segments.

SQuAD: the gold passage among the six nearest, shuffled. MuSiQue: a question's own contexts, cut.
The gap of a method is the divergence KL(full || method) of the answer's first token; what a method
closes is 1 - gap / gap of full reuse (raw segments, nothing computed again), over means of
questions, with a bootstrap interval. Beside it the log-probability of the gold answer and whether
the likeliest first token is the same; F1 of greedy answers for full attention, for full reuse, and
for fused segments with nothing and with the default share computed again; and how far raw and fused
KV are from full attention's, by layer. In fp32, where full attention has no rounding of its own.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from actors.engine.config import FusionConfig, ModelConfig, SelectionRule
from tests.bench.engines import Bench, bench
from tests.bench.fusion_quality.arms import Lab, Outcome, divergence
from tests.bench.fusion_quality.deviation import deviation, draw
from tests.bench.fusion_quality.prompts import (
    Asked,
    Neighbours,
    load_embedder,
    musique,
    squad,
)
from tests.bench.harness import Options, Result, tracked

NUM_NEIGHBOURS = 5
MUSIQUE_CHARS = 600
"""Of a context: about 128 tokens."""
NUM_DEVIATIONS = 20
"""Questions whose KV is compared."""
DEVIATION_LAYER = 2
RULES: tuple[SelectionRule, ...] = get_args(SelectionRule)
SQUAD_RATIOS, MUSIQUE_RATIOS = (0.05, 0.1, 0.15, 0.3), (0.15, 0.3)
QUICK_RATIOS = (0.15,)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Arm:
    rule: SelectionRule
    """Of no effect where the ratio is 0."""
    ratio: float
    fused: bool
    spoken: bool = False
    """Whether it answers, for F1."""

    @property
    def name(self) -> str:
        return f"{'fused' if self.fused else 'raw'}, {self.rule if self.ratio else 'nothing'}"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--squad", type=int, default=100, help="questions of SQuAD")
    parser.add_argument("--musique", type=int, default=50, help="questions of MuSiQue, or 0")


def run(options: Options) -> Result:
    embedder = load_embedder()
    default = FusionConfig().selection
    rules = (default,) if options.quick else RULES
    rows: list[dict[str, Any]] = []
    figures: dict[str, float] = {}
    sets = {"squad": squad(40 if options.quick else options.own.squad, options.seed, embedder)}
    if not options.quick and options.own.musique:
        sets["musique"] = musique(options.own.musique, MUSIQUE_CHARS)
    deviations: dict[str, Floats] = {}
    for name, (pool, asked) in sets.items():
        ratios = SQUAD_RATIOS if name == "squad" else MUSIQUE_RATIOS
        arms = list(arms_of(rules, QUICK_RATIOS if options.quick else ratios))
        neighbours = Neighbours(pool, NUM_NEIGHBOURS, embedder)
        with bench(ModelConfig(dtype="float32")) as parts:
            lab = prepared(parts, asked, neighbours)
            measured = measure(lab, asked, neighbours, arms)
            deviations[name] = deviation(lab, asked[:NUM_DEVIATIONS], neighbours)
        rows += [{"data": name, **row} for row in table(arms, *measured, options.seed)]
        figures[f"{name}_questions"] = float(len(asked))
    figures |= picked(rows, rules, default)
    figures["n_questions"] = figures.pop("squad_questions")
    raw, fused = deviations["squad"][:, DEVIATION_LAYER]
    figures[f"kv_deviation_drop_layer{DEVIATION_LAYER}"] = round(float(1 - fused / raw), 4)
    for name, (own_raw, own_fused) in deviations.items():
        shown = {"raw": np.round(own_raw, 4).tolist(), "fused": np.round(own_fused, 4).tolist()}
        rows.append({"data": name, "arm": "deviation of KV, by layer", **shown})
    config = {"model": asdict(ModelConfig(dtype="float32")), "neighbours": NUM_NEIGHBOURS}
    artifacts = []
    if options.json_path:
        path = Path(options.json_path).with_suffix(".png")
        draw(deviations, path)
        artifacts.append(path.name)
    return Result(config | {"default": asdict(FusionConfig())}, figures, rows, artifacts)


def arms_of(rules: Sequence[SelectionRule], ratios: Sequence[float]) -> Sequence[Arm]:
    """The first is full reuse."""
    default = FusionConfig()
    shown = (default.selection, default.ratio, True)
    nothing = [Arm(default.selection, 0.0, fused, spoken=True) for fused in (False, True)]
    every = [(r, x, fused) for fused in (False, True) for r in rules for x in ratios]
    return [*nothing, *(Arm(*one, spoken=one == shown) for one in every)]


def prepared(parts: Bench, asked: Sequence[Asked], neighbours: Neighbours) -> Lab:
    lab = Lab(parts)
    passages = dict.fromkeys(text for one in asked for text in one.passages)
    for text in tracked(list(passages), "fused segments"):
        lab.fuse(text, neighbours)
    return lab


def measure(
    lab: Lab, asked: Sequence[Asked], neighbours: Neighbours, arms: Sequence[Arm]
) -> tuple[list[Outcome], list[list[Outcome]]]:
    """Outcomes of full attention [q], and of every arm [arm][q]."""
    prefills = [lab.fusion(arm.rule, arm.ratio) for arm in arms]
    full: list[Outcome] = []
    found: list[list[Outcome]] = [[] for _ in arms]
    for one in tracked(list(asked), "questions"):
        full.append(lab.outcome(lab.full, lab.plan(one, None), one.answers, spoken=True))
        for arm, prefill, own in zip(arms, prefills, found, strict=True):
            plan = lab.plan(one, neighbours if arm.fused else None)
            own.append(lab.outcome(prefill, plan, one.answers, arm.spoken))
    return full, found


def table(
    arms: Sequence[Arm], full: Sequence[Outcome], found: Sequence[Sequence[Outcome]], seed: int
) -> list[dict[str, Any]]:
    gaps = np.array([[divergence(f, o) for f, o in zip(full, own, strict=True)] for own in found])
    rows = []
    for i, (arm, own) in enumerate(zip(arms, found, strict=True)):
        closed, low, high = gap_closed(gaps[i], gaps[0], seed)
        same = [f.first == o.first for f, o in zip(full, own, strict=True)]
        rows.append(
            {
                "arm": arm.name,
                "ratio": arm.ratio,
                "kl": round(float(gaps[i].mean()), 4),
                "closed": round(closed, 4),
                "low": round(low, 4),
                "high": round(high, 4),
                "top1_same": round(float(np.mean(same)), 3),
                "gold_logprob": round(float(np.mean([o.gold for o in own])), 4),
                "gold_logprob_full": round(float(np.mean([f.gold for f in full])), 4),
            }
        )
        if arm.spoken:
            rows[-1] |= {"f1": mean_f1(own), "f1_full": mean_f1(full)}
    return rows


def mean_f1(outcomes: Sequence[Outcome]) -> float:
    return round(float(np.mean([o.f1 for o in outcomes if o.f1 is not None])), 4)


def gap_closed(
    gap: Floats, reuse: Floats, seed: int, draws: int = 5_000
) -> tuple[float, float, float]:
    """1 - mean gap / mean gap of full reuse, and both ends of its 95 % bootstrap interval."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(gap), (draws, len(gap)))
    values = 1 - gap[drawn].mean(1) / reuse[drawn].mean(1)
    low, high = np.quantile(values, (0.025, 0.975))
    return float(1 - gap.mean() / reuse.mean()), float(low), float(high)


def picked(rows: Sequence[dict[str, Any]], rules: Sequence[str], default: str) -> dict[str, float]:
    """The contract's figures."""
    closed = {(r["data"], r["arm"], r["ratio"]): float(r["closed"]) for r in rows}
    figures = {"squad_gap_closed_r00": closed["squad", "fused, nothing", 0.0]}
    for data in dict.fromkeys(r["data"] for r in rows):
        for rule in rules:
            figures[f"{data}_gap_closed_r15_{rule}"] = closed[data, f"fused, {rule}", 0.15]
        figures[f"{data}_gap_closed_r15_default"] = closed[data, f"fused, {default}", 0.15]
    for rule in rules:
        figures[f"squad_raw_gap_closed_r15_{rule}"] = closed["squad", f"raw, {rule}", 0.15]
    return figures
