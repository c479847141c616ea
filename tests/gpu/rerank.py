"""Reranking on a GPU over stored KV against full computation: Gemma-2B's shape, 100 candidates."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.harness import Options, Result
from tests.gpu.arms import Arm, from_device, from_store, recompute
from tests.gpu.candidates import Candidates, Sizes
from tests.gpu.floor import Machine, compute_floor_s, measured
from tests.gpu.rig import GEMMA_2B, Rig, cuda_rig
from tests.gpu.stores import Stocked, stocked

PASSAGES = (128, 256, 512)
_WARM_UPS = 2


def run(options: Options) -> Result:
    repetitions = 3 if options.quick else 9
    rig = cuda_rig(options.seed)
    machine = measured(rig.device)
    figures: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    for passage in PASSAGES:
        sizes = Sizes(passage=passage)
        for row in rows_of(rig, sizes, machine, repetitions):
            rows.append({"passage_tokens": passage} | row)
            name = f"{row['arm']}_{sizes.candidates}x{passage}"
            figures[f"reranks_per_s_{name}"] = row["reranks_per_s"]
            if row["arm"] != "recompute":
                figures[f"speedup_{name}"] = row["speedup"]
                figures[f"above_floor_{name}"] = row["above_floor"]
    return Result(
        config={"model": GEMMA_2B, "sizes": asdict(Sizes()), "machine": asdict(machine)},
        figures=figures,
        rows=rows,
    )


def arms_of(stock: Stocked) -> dict[str, Arm]:
    """Every way to rerank but the baseline. The order matters: reading the sets in turn, as the
    last ones do, leaves neither in DRAM."""
    device, store = stock.through_device, stock.through_store
    return {
        "hbm": from_device(device, graphs=False),
        "hbm_graph": from_device(device, graphs=True),
        "dram": from_store(store, graphs=False, tier="dram"),
        "dram_graph": from_store(store, graphs=True, tier="dram"),
        "ssd": from_store(store, graphs=False, tier="ssd"),
        "ssd_graph": from_store(store, graphs=True, tier="ssd"),
    }


def rows_of(rig: Rig, sizes: Sizes, machine: Machine, repetitions: int) -> Iterator[dict[str, Any]]:
    """One arm after the other, each in turn with the baseline; its scores beside those."""
    sets = (Candidates(rig, sizes, 1), Candidates(rig, sizes, 2))
    floor_s = compute_floor_s(rig, sizes, machine)
    kv_bytes = sizes.candidates * sizes.past * rig.layout.nbytes
    with (
        tempfile.TemporaryDirectory(prefix="hyperrag-gpu-") as folder,
        stocked(*sets, rig.device, Path(folder), "/dev/shm") as stock,
    ):
        baseline: list[float] = []
        for name, arm in arms_of(stock).items():
            runs = [_pair(stock, name, arm, turn) for turn in range(-_WARM_UPS, repetitions)]
            timed = runs[_WARM_UPS:]
            baseline += [run.full_s for run in timed]
            least = floor_s
            if not name.startswith("hbm"):
                least = max(floor_s, kv_bytes / machine.host_bytes_per_s)
            ours = [run.ours_s for run in timed]
            yield _row(name, ours, sizes) | {
                "speedup": round(statistics.median(run.full_s / run.ours_s for run in timed), 3),
                "floor_s": round(least, 5),
                "above_floor": round(statistics.median(ours) / least - 1, 4),
                "max_score_difference": round(max(run.difference for run in runs), 4),
            }
        yield _row("recompute", baseline, sizes)


@dataclass(frozen=True, slots=True)
class Pair:
    """The baseline and one arm on the same question."""

    full_s: float
    ours_s: float
    difference: float
    """Largest, of the scores."""


def _pair(stock: Stocked, name: str, arm: Arm, turn: int) -> Pair:
    from_ssd = name.startswith("ssd")
    candidates = stock.sets[turn % 2 if from_ssd else 0]
    question = candidates.question(turn)
    if from_ssd:
        stock.drop_page_cache()
    wanted, full_s = _timed(recompute, candidates, question)
    scores, ours_s = _timed(arm, candidates, question)
    difference = max(abs(a - b) for a, b in zip(wanted, scores, strict=True))
    return Pair(full_s, ours_s, difference)


def _row(name: str, seconds: list[float], sizes: Sizes) -> dict[str, Any]:
    median = statistics.median(seconds)
    return {
        "arm": name,
        "median_s": round(median, 5),
        "min_s": round(min(seconds), 5),
        "max_s": round(max(seconds), 5),
        "reranks_per_s": round(sizes.candidates / median, 1),
    }


def _timed(arm: Arm, candidates: Candidates, question: list[int]) -> tuple[list[float], float]:
    start = time.perf_counter()
    scores = arm(candidates, question)
    return scores, time.perf_counter() - start
