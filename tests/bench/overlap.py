"""Loading beside computing: measured against the model, and against loading first.

A prompt of about 1,000 cached tokens on an SSD that is slowed down, and a question that takes a
while to compute. For each ratio of load to compute the disk's rate follows from what computing
alone was measured to take. The model (ALGORITHMS 4.1), over L layers:

    beside each other   (load + compute) / L + (L - 1) / L * max(load, compute)
    one by one          load + compute

`load` and `compute` are measured alone in the same repetition: acquiring all segments, and the same
request with its segments in DRAM.
"""

import random
import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from actors.engine.config import GeneratorConfig, ModelConfig, Overlap
from actors.engine.generate import GenerateEngine
from actors.engine.plan import Planner
from actors.messages import GenerateRequest, Message, Sampling
from kvstore.config import StoreConfig
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Path as Chain
from tests.bench.engines import Bench, bench
from tests.bench.harness import Options, Result, folder_on_disk, spread, tracked
from tests.bench.rerank_reuse import words

RATIOS = (0.25, 0.5, 1.0, 2.0)
PASSAGE_TOKENS, QUESTION_TOKENS = 960, 448
_DRAM_BYTES = 2**28


@dataclass(frozen=True, slots=True)
class SlowDisk:
    """A copy of a store's segment files, behind a disk of any rate; DRAM is empty every time."""

    parts: Bench
    ssd_dir: Path

    @contextmanager
    def at(self, bytes_per_s: float) -> Iterator[LocalStoreClient]:
        config = StoreConfig(
            dram_bytes=_DRAM_BYTES,
            dram_dir=self.parts.store_dir,
            ssd_dir=str(self.ssd_dir),
            scrub_bytes_per_s=0,
            faults=(f"read rate {bytes_per_s}",),
        )
        store = KVStore(config, node="bench-slow")
        client = LocalStoreClient(store, self.parts.store_dir)
        try:
            assert store.flush(60)
            yield client
        finally:
            client.close()
            store.close()


def run(options: Options) -> Result:
    repetitions = 3 if options.quick else 9
    rng = random.Random(options.seed)
    rows: list[dict[str, Any]] = []
    errors, gains = [], {}
    with bench(ModelConfig()) as parts, folder_on_disk() as folder:
        passage, question = (
            words(parts.runtime.decoder, rng, n) for n in (PASSAGE_TOKENS, QUESTION_TOKENS)
        )
        request = _request(passage, question)
        warm = parts.generator(_config("none"))
        compute_s = statistics.median([_seconds(warm, request) for _ in range(7)][1:])
        assert parts.store.flush(60)
        shutil.copytree(parts.ssd_dir, folder / "ssd")
        disk = SlowDisk(parts, folder / "ssd")
        num_layers = parts.runtime.decoder.layout.num_layers
        for ratio in tracked(RATIOS, "ratios"):
            seconds = _measure(disk, warm, request, ratio * compute_s, repetitions)
            error, gains[ratio] = compared(seconds, num_layers)
            errors.append(error)
            for arm, own in seconds.items():
                rows.append({"load/compute": ratio, **spread(arm, own)})
            verdict = {"arm": "off the model", "error": error, "gain": gains[ratio]}
            rows.append({"load/compute": ratio, **verdict})
    config = {"model": asdict(ModelConfig()), "passage": PASSAGE_TOKENS, "ratios": RATIOS}
    figures = {"model_error_max": max(errors), "gain_at_ratio_1": gains[1.0]}
    return Result(config | {"question": QUESTION_TOKENS}, figures, rows)


def compared(seconds: dict[str, list[float]], num_layers: int) -> tuple[float, float]:
    """How far the median of the overlapped arm is off the model, as a share; how many times faster
    it is than loading first."""
    modelled = [
        model_s(load, compute, num_layers)
        for load, compute in zip(seconds["load alone"], seconds["compute alone"], strict=True)
    ]
    ours = seconds["beside each other"]
    off = statistics.median(o / m - 1 for o, m in zip(ours, modelled, strict=True))
    pairs = zip(seconds["one by one"], ours, strict=True)
    return round(abs(off), 3), round(statistics.median(n / o for n, o in pairs), 3)


def model_s(load_s: float, compute_s: float, num_layers: int) -> float:
    """Of equal layers: the first one's load and the last one's compute are exposed."""
    slower = max(load_s, compute_s)
    return (load_s + compute_s + (num_layers - 1) * slower) / num_layers


def _measure(
    disk: SlowDisk,
    warm: GenerateEngine,
    request: GenerateRequest,
    load_s: float,
    repetitions: int,
) -> dict[str, list[float]]:
    runtime = disk.parts.runtime
    path = Planner(runtime.decoder, runtime.prompt, _config("none")).plan(request).path
    rate = sum(spec.layout.nbytes for spec in path) / load_s
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(repetitions):
        with disk.at(rate) as client:
            seconds["load alone"].append(_load_s(client, path))
        seconds["compute alone"].append(_seconds(warm, request))
        arms: dict[str, Overlap] = {"one by one": "none", "beside each other": "load"}
        for arm, overlap in arms.items():
            with disk.at(rate) as client:
                engine = GenerateEngine(runtime, _config(overlap), client)
                seconds[arm].append(_seconds(engine, request))
                engine.close()
    return seconds


def _load_s(client: LocalStoreClient, path: Chain) -> float:
    start = time.perf_counter()
    acquired = client.acquire([path], 600)
    seconds = time.perf_counter() - start
    assert len(acquired.hits) == len(path)
    client.release(acquired.lease_id)
    return seconds


def _config(overlap: Overlap) -> GeneratorConfig:
    return GeneratorConfig(overlap=overlap)


def _request(passage: str, question: str) -> GenerateRequest:
    asked = (Message("user", question),)
    return GenerateRequest("bench", "bench", asked, (passage,), Sampling(max_tokens=1), 600)


def _seconds(engine: GenerateEngine, request: GenerateRequest) -> float:
    """To the first token."""
    start = time.perf_counter()
    engine.start(request, time.monotonic() + 600)
    return time.perf_counter() - start
