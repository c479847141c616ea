"""The autoscaler in a real Serve application: three GPUs, a load that shifts to and fro.

The whole service over HTTP, with the small model. GPUs are only counted: a replica takes one, and
computes at least as long as a question says that it needs it
(`tests/cluster/autoscaling/paced_engines.py`), the rest is slept, so that the shared cores of this
machine are not what is measured. Ray knows of no limit: that the budget holds is the policy's
doing. Compared with the best static split of each phase, on the same questions at the same times,
in applications of their own.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actors.engine.config import ModelConfig
from tests.bench.harness import Options, Result, folder_on_disk
from tests.cluster.autoscaling.paced_engines import APP
from tests.cluster.autoscaling.traffic import (
    ANSWER_S,
    Answer,
    Mix,
    Watch,
    ask,
    ingest,
    watching,
)
from tests.cluster.running import serving

GPUS = 3
RERANK_HEAVY = Mix(2.0, 1.0, 0.75)
GENERATION_HEAVY = Mix(0.4, 1.6, 0.94)
"""t_r : t_g = 2 : 1 and 0.4 : 1.6, at 0.75 of what the best split of three sustains: what
queues up before the split follows is to be worked off before the next shift."""
SETTINGS = {
    "enabled": True,
    "gpus": GPUS,
    "tick_s": 2.0,
    "window_s": 10.0,
    "evidence_s": 4.0,
    "cooldown_s": 30.0,
    "switch_s": 15.0,
    "refill_s": 0.0,
    "drain_s": 30.0,
}
SERVICE: dict[str, Any] = {
    "app": APP,
    "ingress": {"request_timeout_s": ANSWER_S},
    "store": {"dram_bytes": 2**29, "ssd_bytes": 2**29},
}


@dataclass(frozen=True, slots=True)
class Phase:
    name: str
    mix: Mix
    best: tuple[int, int]
    """Replicas of reranker and generator that sustain most of it."""


PHASES = (
    Phase("rerank-heavy", RERANK_HEAVY, (2, 1)),
    Phase("generation-heavy", GENERATION_HEAVY, (1, 2)),
    Phase("rerank-heavy again", RERANK_HEAVY, (2, 1)),
)


def run(options: Options) -> Result:
    seconds = 60.0 if options.quick else 120.0
    with folder_on_disk() as folder:
        starts, answers, watch = _scaled(folder, seconds, options.seed)
        static = [
            _static(folder, phase, seconds, options.seed + number)
            for number, phase in enumerate(PHASES[:2])
        ]
    static.append(static[0])
    rows: list[dict[str, Any]] = []
    for number, phase in enumerate(PHASES):
        row = _row(phase, starts[number], seconds, answers[: number + 1], static[number])
        took = watch.since(starts[number], *phase.best)
        rows.append({**row, "seconds_to_split": None if took is None else round(took, 1)})
    shifts = [row["seconds_to_split"] for row in rows[1:]]
    every = [answer for phase in answers for answer in phase]
    figures = {
        "seconds_to_shift": float("inf") if None in shifts else max(shifts),
        "failed_requests": float(sum(answer.status != 200 for answer in every)),
        "budget_violations": float(sum(r + g > GPUS for _, r, g in watch.samples)),
        "throughput_vs_best_static": min(row["ratio"] for row in rows),
        "requests": float(len(every)),
        "samples": float(len(watch.samples)),
    }
    config = {
        "model": asdict(ModelConfig()),
        "gpus": "processes of the model on shared cores, padded to declared times; only counted",
        "phase_s": seconds,
        "mixes": {phase.name: asdict(phase.mix) for phase in PHASES},
        "autoscaler": SETTINGS,
    }
    return Result(config, figures, rows)


def _row(
    phase: Phase,
    start: float,
    seconds: float,
    answers: Sequence[list[Answer]],
    static: tuple[float, list[Answer]],
) -> dict[str, Any]:
    """`answers` are those of this phase and of all before it: some end in it."""
    done = _completed(answers, start, seconds)
    best = _completed([static[1]], static[0], seconds)
    own = answers[-1]
    return {
        "phase": phase.name,
        "best_split": "{}+{}".format(*phase.best),
        "asked": len(own),
        "completed_per_s": round(done, 3),
        "best_static_per_s": round(best, 3),
        "ratio": round(done / best, 3),
        "failed": sum(answer.status != 200 for answer in own),
        "p50_s": round(_latency(own), 2),
        "p50_static_s": round(_latency(static[1]), 2),
    }


def _scaled(
    folder: Path, seconds: float, seed: int
) -> tuple[list[float], list[list[Answer]], Watch]:
    """All phases in one application: when each began, its answers, and who held a GPU when."""
    own = folder / "scaled"
    own.mkdir()
    starts, pending = list[float](), []

    async def shift(url: str) -> list[list[Answer]]:
        for number, phase in enumerate(PHASES):
            starts.append(time.monotonic())
            pending.append(asyncio.create_task(ask(url, phase.mix, seconds, seed + number % 2)))
            await asyncio.sleep(seconds)
        return await asyncio.gather(*pending)

    with (
        serving(own, reranker={"num_replicas": 2}, autoscaler=SETTINGS, **SERVICE) as service,
        watching(own / "data" / "run") as watch,
    ):
        ingest(service.url)
        answers = asyncio.run(shift(service.url))
    return starts, answers, watch


def _static(folder: Path, phase: Phase, seconds: float, seed: int) -> tuple[float, list[Answer]]:
    own = folder / f"static-{phase.name}"
    own.mkdir()
    rerank, generate = ({"num_replicas": count} for count in phase.best)
    with serving(own, reranker=rerank, generator=generate, **SERVICE) as service:
        ingest(service.url)
        start = time.monotonic()
        return start, asyncio.run(ask(service.url, phase.mix, seconds, seed))


def _completed(answers: Sequence[list[Answer]], start: float, seconds: float) -> float:
    """Per second of a phase, whenever they were asked."""
    ended = [answer.ended for phase in answers for answer in phase if answer.status == 200]
    return sum(start <= when < start + seconds for when in ended) / seconds


def _latency(answers: Sequence[Answer]) -> float:
    seconds = sorted(answer.ended - answer.sent for answer in answers)
    return seconds[len(seconds) // 2]
