"""PCR's ladder: what each tier and technique takes from the mean time to the first token.

Two passages and a question, exact prefix reuse, Poisson arrivals at 0.9 of what the first arm can
serve, the same arrivals for every arm. Of some requests the second passage, of others both are
asked for the first time. The device is a block of this machine's memory behind a link of a declared
rate, the SSD a real folder behind a declared rate: both follow from the measured time of a full
prefill, so that loading a prompt from the SSD takes 0.6 of the time to compute it, and the device's
link is sixteen times as fast.
"""

import argparse
import gc
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from actors.engine.batcher import Batcher
from actors.engine.config import (
    DeviceTierConfig,
    EngineConfig,
    GeneratorConfig,
    ModelConfig,
    Overlap,
    PromptConfig,
)
from actors.engine.device import DevicePool
from actors.engine.generate import GenerateEngine
from actors.engine.runtime import Runtime, load_runtime
from kvstore.config import PolicyName, StoreConfig
from kvstore.store import KVStore
from kvstore.supervised import Supervisor
from tests.bench.harness import Options, Result, folder_on_disk, tracked
from tests.bench.pcr_ladder.links import Link, LinkedClient, LinkedTier
from tests.bench.pcr_ladder.work import (
    FIRST_TOKENS,
    NEW_SHARES,
    SECOND_TOKENS,
    ZIPF,
    Answer,
    Work,
    make_work,
    one_by_one,
    open_loop,
)

LOAD = 0.9
SSD_RATIO = 0.6
"""Seconds to load a whole prompt from the SSD, over seconds to compute it."""
LINK_GAIN = 16
DEVICE_PROMPTS, DRAM_PROMPTS, STAGING_PROMPTS = 3, 8, 3
"""What tiers hold, in prompts. A store needs room to compute into, with a device alone too."""


@dataclass(frozen=True, slots=True)
class Arm:
    name: str
    dram_prompts: int = DRAM_PROMPTS
    ssd: bool = True
    policy: PolicyName = "lookahead_lru"
    overlap: Overlap = "both"
    prefetch: bool = True


ARMS = (
    Arm("device", STAGING_PROMPTS, ssd=False, policy="lru", overlap="none", prefetch=False),
    Arm("dram", ssd=False, policy="lru", overlap="none", prefetch=False),
    Arm("ssd", policy="lru", overlap="none", prefetch=False),
    Arm("lookahead", overlap="none", prefetch=False),
    Arm("overlap", prefetch=False),
    Arm("prefetch"),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """One model, and the rates of its links."""

    runtime: Runtime
    prompt_bytes: int
    ssd_bytes_per_s: float
    link_bytes_per_s: float


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=100, help="for each arm")


def run(options: Options) -> Result:
    num_documents, num_requests = (8, 16) if options.quick else (40, options.own.requests)
    rows: list[dict[str, Any]] = []
    with folder_on_disk() as folder:
        runtime = load_runtime(ModelConfig(), PromptConfig(), EngineConfig(), str(folder))
        rng = random.Random(options.seed)
        work = make_work(runtime.decoder, num_documents, num_requests, rng)
        machine = _machine(runtime, work)
        with _serving(ARMS[0], machine, folder / "capacity") as (batcher, _):
            one_by_one(batcher, work.warm_up)
            rate = LOAD * num_requests / one_by_one(batcher, work.requests)
        answers: dict[str, list[Answer]] = {}
        for arm in tracked(ARMS, "arms"):
            with _serving(arm, machine, folder / arm.name) as (batcher, engine):
                one_by_one(batcher, work.warm_up)
                answers[arm.name] = open_loop(batcher, engine, work, rate)
            rows.append(_row(arm, answers))
    means = [statistics.fmean(a.ttft_s for a in answers[arm.name]) for arm in ARMS]
    figures = {"gain_total": round(means[0] / means[-1], 3)}
    for arm, before, after in zip(ARMS[1:], means[:-1], means[1:], strict=True):
        figures[f"gain_{arm.name}"] = round(before / after, 3)
    return Result(_facts(machine, work, rate), figures, rows)


def _machine(runtime: Runtime, work: Work) -> Machine:
    """Rates by the time of a full prefill, the median of five."""
    engine = GenerateEngine(runtime, GeneratorConfig(mode="full"), None)
    seconds = []
    for request in work.requests[:5]:
        start = time.perf_counter()
        engine.start(request, time.monotonic() + 600)
        seconds.append(time.perf_counter() - start)
    layout = runtime.decoder.layout
    nbytes = replace(layout, num_tokens=FIRST_TOKENS + SECOND_TOKENS).nbytes
    rate = nbytes / (SSD_RATIO * statistics.median(seconds))
    return Machine(runtime, nbytes, rate, LINK_GAIN * rate)


@contextmanager
def _serving(arm: Arm, machine: Machine, folder: Path) -> Iterator[tuple[Batcher, GenerateEngine]]:
    """An engine over a store of its own, both empty."""
    store_config = StoreConfig(
        dram_bytes=int(arm.dram_prompts * 1.05 * machine.prompt_bytes),
        ssd_dir=str(folder) if arm.ssd else "",
        policy=arm.policy,
        prefetch=arm.prefetch,
        scrub_bytes_per_s=0,
        faults=(f"read rate {machine.ssd_bytes_per_s}",),
    )
    tier_config = DeviceTierConfig(DEVICE_PROMPTS * machine.prompt_bytes, policy=arm.policy)
    alone = arm.dram_prompts == STAGING_PROMPTS  # nothing is kept in the host: nothing goes there
    down, up = (Link(machine.link_bytes_per_s) for _ in range(2))
    store = KVStore(store_config, node="bench-ladder")
    client = LinkedClient(store, store_config.dram_dir, Link(1e12) if alone else up, down)
    pool = DevicePool(torch.device("cpu"), tier_config.bytes)
    tier = LinkedTier(pool, tier_config, down)
    config = GeneratorConfig(overlap=arm.overlap, stream_interval_s=0)
    engine = GenerateEngine(machine.runtime, config, client, tier)
    batcher = Batcher(engine, config, Supervisor())
    try:
        assert store.flush(60)
        yield batcher, engine
    finally:
        batcher.close()
        client.close()
        store.close()
        gc.collect()


def _row(arm: Arm, answers: dict[str, list[Answer]]) -> dict[str, Any]:
    own = sorted(a.ttft_s for a in answers[arm.name])
    pairs = zip(answers[arm.name], answers[ARMS[0].name], strict=True)
    return {
        "arm": arm.name,
        "mean_ttft_s": round(statistics.fmean(own), 3),
        "p50_s": round(statistics.median(own), 3),
        "p95_s": round(own[int(0.95 * len(own))], 3),
        "answers_equal": round(statistics.fmean(a.text == b.text for a, b in pairs), 3),
    }


def _facts(machine: Machine, work: Work, requests_per_s: float) -> dict[str, Any]:
    return {
        "model": asdict(ModelConfig()),
        "requests": len(work.requests),
        "documents": len(work.warm_up),
        "tokens": [FIRST_TOKENS, SECOND_TOKENS],
        "zipf": ZIPF,
        "new_shares": NEW_SHARES,
        "requests_per_s": round(requests_per_s, 3),
        "ssd_bytes_per_s": round(machine.ssd_bytes_per_s),
        "link_bytes_per_s": round(machine.link_bytes_per_s),
        "device_prompts": DEVICE_PROMPTS,
        "dram_prompts": DRAM_PROMPTS,
    }
