"""Every type of causal language model that transformers has: exact, or refused by name.

A tiny random model of each type is loaded as any model is. What loads is compared with stock
transformers: whole and split texts, batches, greedy answers, reranking over a store. MODELS.md
lists the verdicts (`--table` writes it); a test checks that it says what loading does.
"""

import argparse
import time
from collections import Counter
from typing import Any

from tests.bench.harness import Options, Result, tracked
from tests.bench.model_families.table import write_table
from tests.bench.model_families.verdict import Verdict, model_types, store_client, verdict_of


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--types", nargs="*", help="these alone")
    parser.add_argument("--table", action="store_true", help="write MODELS.md")


def run(options: Options) -> Result:
    names = options.own.types or model_types()
    if options.quick:
        names = names[::10]
    began, found = time.monotonic(), list[Verdict]()
    with store_client() as checked:
        for name in tracked(names, "model types"):
            found.append(verdict_of(name, seed=options.seed + 7, checked=checked))
    counts = Counter(verdict.kind for verdict in found)
    if options.own.table:
        write_table(found)
    built = len(found) - counts["not_built"]
    return Result(
        config={"seed": options.seed, "seconds": round(time.monotonic() - began)},
        figures={
            "families": built,
            "exact": counts["exact"],
            "refused": counts["refused"],
            "fusion": sum(verdict.fusion for verdict in found if verdict.kind == "exact"),
            "silently_wrong": counts["silently_wrong"],
            "crashed": counts["crashed"],
            "not_built": counts["not_built"],
        },
        rows=[_row(verdict) for verdict in found],
    )


def _row(verdict: Verdict) -> dict[str, Any]:
    figures = {k: float(f"{v:.2g}") for k, v in (verdict.figures or {}).items()}
    return {
        "type": verdict.model_type,
        "verdict": verdict.kind,
        "fusion": verdict.fusion,
        "why": verdict.why,
        **figures,
    }
