"""One model in both stages: segments that the reranker computed, used by the generator.

SQuAD questions as a stream: each has its 20 nearest passages reranked, and an answer begun from the
best three. Shared, the generator finds what the reranker has computed: the first passage where
prefixes are exact, every passage with fusion. Apart, the same engines, but the generator's chains
begin elsewhere (as they would with another model or template), so it computes and stores its own.
Counted: the generator's tokens computed, the store's bytes at the end, and the time to the first
token, cold and warm as the stream has it.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from actors.engine.config import FusionConfig, GeneratorConfig, ModelConfig
from actors.engine.generate import GenerateEngine
from actors.engine.rerank import RerankEngine
from actors.engine.weights import load_tokenizer
from actors.messages import GenerateRequest, Message, Sampling
from kvstore.config import GIB, StoreConfig
from tests.bench.engines import bench
from tests.bench.harness import Options, Result, spread, tracked
from tests.bench.pool import Corpus, Pool, squad_questions

NUM_CANDIDATES, NUM_USED = 20, 3
RERANKER = "bench"
TENANTS = {"shared": RERANKER, "apart": "bench-generator"}
"""Chains of different tenants begin apart: the generator finds nothing of the reranker's."""
CONFIGS = {
    "prefix": GeneratorConfig(),
    "fusion": GeneratorConfig(mode="fusion", fusion=FusionConfig()),
}
_TIMEOUT_S = 600.0


@dataclass(slots=True)
class Tally:
    ttft_s: list[float] = field(default_factory=list)
    computed: int = 0
    """Tokens of prompts that the generator computed: all of the question's, too."""
    prompt: int = 0


def run(options: Options) -> Result:
    asked = squad_questions(16 if options.quick else 80, options.seed)
    tokenizer = load_tokenizer(ModelConfig().source, ModelConfig().cache_dir)
    pool = Corpus(tokenizer).retrieve(asked, NUM_CANDIDATES)
    rows: list[dict[str, Any]] = []
    figures: dict[str, float] = {"n_questions": float(len(pool.asked))}
    for mode in CONFIGS:
        tallies = {}
        for how in TENANTS:
            tallies[how], nbytes = replay(pool, mode, how)
            rows.append(_row(mode, how, tallies[how], nbytes))
        shared, apart = (tallies[how] for how in TENANTS)
        ttft = [a / s for a, s in zip(apart.ttft_s, shared.ttft_s, strict=True)]
        figures[f"{mode}_ttft_gain"] = round(statistics.median(ttft), 3)
        figures[f"{mode}_computed_share"] = round(shared.computed / apart.computed, 3)
        figures[f"{mode}_bytes_share"] = round(rows[-2]["stored_mib"] / rows[-1]["stored_mib"], 3)
    config = {"model": asdict(ModelConfig()), "candidates": NUM_CANDIDATES, "used": NUM_USED}
    return Result(config, figures, rows)


def replay(pool: Pool, mode: str, how: str) -> tuple[Tally, int]:
    """The stream over an empty store; and the bytes that it holds at the end."""
    tally = Tally()
    with bench(ModelConfig(), StoreConfig(dram_bytes=6 * GIB, ssd_dir="")) as parts:
        reranker, generator = parts.reranker(), parts.generator(CONFIGS[mode])
        for i in tracked(range(len(pool.asked)), f"{mode}, {how}"):
            question = pool.asked[i].question
            used = _best(reranker, question, pool.texts[i])
            _begin(generator, TENANTS[how], question, used, tally)
        generator.close()
        return tally, parts.store.stats().dram.used_bytes


def _best(engine: RerankEngine, question: str, texts: Sequence[str]) -> tuple[str, ...]:
    scores = engine.score(RERANKER, question, texts, timeout_s=_TIMEOUT_S).log_likelihoods
    order = sorted(range(len(texts)), key=lambda i: -scores[i])
    return tuple(texts[i] for i in order[:NUM_USED])


def _begin(
    engine: GenerateEngine, tenant: str, question: str, texts: tuple[str, ...], tally: Tally
) -> None:
    message = Message("user", question)
    request = GenerateRequest("bench", tenant, (message,), texts, Sampling(), _TIMEOUT_S)
    start = time.perf_counter()
    sequence = engine.start(request, time.monotonic() + _TIMEOUT_S)
    tally.ttft_s.append(time.perf_counter() - start)
    tally.computed += sequence.cache.tokens_computed
    tally.prompt += sequence.num_prompt


def _row(mode: str, how: str, tally: Tally, nbytes: int) -> dict[str, Any]:
    return {
        "mode": mode,
        **spread(how, tally.ttft_s),
        "tokens_computed": tally.computed,
        "of": tally.prompt,
        "stored_mib": round(nbytes / 2**20, 1),
    }
