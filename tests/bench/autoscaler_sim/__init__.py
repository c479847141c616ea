"""The autoscaler's decision code against a simulated cluster of eight GPUs, in virtual time.

A simulation: replicas are queues with random service times, and nothing is computed. What decides
is the code that serves; it sees counters, as of real replicas, and no true service time. Every arm
has the same queues, deadlines, arrivals and costs of a move: each static split, Ray Serve's default
autoscaling, and one that knows the future. On steady loads with 20 % noise every move would be one
too many. The first rows are the table of reuse and rebalancing: t_r falls to a fifth.
"""

from dataclasses import asdict
from statistics import mean
from typing import Any

from cluster.autoscaling.config import AutoscalerConfig
from cluster.autoscaling.splits import Split
from tests.bench.autoscaler_sim import picture, plant
from tests.bench.autoscaler_sim.arms import BUDGET, Arm, Clairvoyant, Ours, ServeDefault, static
from tests.bench.autoscaler_sim.loads import (
    GPUS,
    PHASE_S,
    SHARE,
    Load,
    shifting,
    steady,
)
from tests.bench.harness import Options, Result, tracked

SECONDS = 7200.0
CONFIG = AutoscalerConfig(gpus=GPUS)


def run(options: Options) -> Result:
    seeds = range(options.seed, options.seed + (1 if options.quick else 2))
    rows = _reuse(options.seed)
    compared = [
        _compared(load, list(seeds)) for load in tracked(shifting(SECONDS), "shifting loads")
    ]
    calm = [_calm(load, list(seeds)) for load in tracked(steady(SECONDS), "steady loads")]
    figures = {
        "slo_gain_vs_best_static": round(min(row["gain"] for row in compared), 3),
        "share_of_clairvoyant": round(min(row["of_clairvoyant"] for row in compared), 3),
        "oscillations": float(sum(row["moves"] for row in calm)),
        "reuse_alone": rows[1]["gain"],
        "reuse_and_rebalancing": rows[2]["gain"],
        "waits_for_a_gpu": float(sum(row["waits_for_a_gpu"] for row in compared)),
    }
    config = {
        "simulated": True,
        "gpus": GPUS,
        "share_of_best_split": SHARE,
        "seconds": SECONDS,
        "phase_s": PHASE_S,
        "slo_s": plant.SLO_S,
        "waiting_per_replica": plant.MAX_WAITING,
        "load_s": plant.LOAD_S,
        "seeds": list(seeds),
        "autoscaler": asdict(CONFIG),
    }
    artifacts = picture.draw(compared, options) if options.json_path else []
    return Result(config, figures, [*rows, *compared, *calm], artifacts)


def simulate(load: Load, arm: Arm, first: Split, seed: int) -> plant.Plant:
    simulated = plant.Plant(load, first, seed)
    simulated.run(arm)
    return simulated


def in_time(load: Load, arm: Arm, first: Split, seed: int) -> float:
    """Share of the requests that completed within the SLO."""
    simulated = simulate(load, arm, first, seed)
    return simulated.in_time / simulated.arrived


def _reuse(seed: int) -> list[dict[str, Any]]:
    """Throughput at saturation: t_r : t_g = 2 : 1, then reuse makes t_r 0.4."""
    seconds, first = 3600.0, Split(5, 3)
    heavy = Load("t_r 2", lambda _: 0.0, seconds, fixed_rate=2.0 * GPUS)
    reused = Reused("t_r 0.4", lambda _: 0.0, seconds, fixed_rate=2.0 * GPUS)
    arms: list[tuple[str, Load, Arm]] = [
        ("no reuse", heavy, static),
        ("reuse alone", reused, static),
        ("reuse, rebalanced", reused, Ours(CONFIG)),
    ]
    rows: list[dict[str, Any]] = []
    for name, load, arm in arms:
        simulated = simulate(load, arm, first, seed)
        per_s = simulated.in_time / seconds
        base = rows[0]["per_s"] if rows else per_s
        gain = round(per_s / base, 3)
        split = f"{simulated.targets.rerank}+{simulated.targets.generate}"
        rows.append({"load": name, "split": split, "per_s": round(per_s, 3), "gain": gain})
    return rows


class Reused(Load):
    """Rerank-heavy, but a fifth of it."""

    def service_s(self, t: float) -> tuple[float, float]:
        rank, write = super().service_s(t)
        return rank / 5, write


def _compared(load: Load, seeds: list[int]) -> dict[str, Any]:
    shares = {
        split: [in_time(load, static, split, seed) for seed in seeds] for split in BUDGET.splits()
    }
    best = max(shares, key=lambda split: mean(shares[split]))
    scaled = [Ours(CONFIG) for _ in seeds]
    ours = [simulate(load, arm, best, seed) for arm, seed in zip(scaled, seeds, strict=True)]
    served = [own.in_time / own.arrived for own in ours]
    clairvoyant = Clairvoyant(load)
    known = [in_time(load, clairvoyant, clairvoyant.first, seed) for seed in seeds]
    default = [in_time(load, ServeDefault(), best, seed) for seed in seeds]
    return {
        "load": load.name,
        "split": f"{best.rerank}+{best.generate}",
        "best_static": round(mean(shares[best]), 3),
        "serve_default": round(mean(default), 3),
        "ours": round(mean(served), 3),
        "clairvoyant": round(mean(known), 3),
        "gain": round(min(own / fixed for own, fixed in zip(served, shares[best], strict=True)), 3),
        "of_clairvoyant": round(min(a / b for a, b in zip(served, known, strict=True)), 3),
        "moves": sum(v.event == "move" for arm in scaled for _, v in arm.verdicts) / len(seeds),
        "waits_for_a_gpu": sum(own.waits_for_gpu for own in ours),
    }


def _calm(load: Load, seeds: list[int]) -> dict[str, Any]:
    """From the split that sustains most."""
    first = load.best_split(0.0)
    moves = 0
    for seed in seeds:
        arm = Ours(CONFIG)
        simulate(load, arm, first, seed)
        moves += sum(v.event == "move" for _, v in arm.verdicts)
    return {"load": load.name, "split": f"{first.rerank}+{first.generate}", "moves": moves}
