"""How many passage tokens of a real trace are reused: in order, in canonical order, anywhere.

RAGPulse (five days of a university's question answering) goes through the real store, tree and
ordering, request by request; texts are synthetic, of the lengths that the trace gives, and so is
the KV, a few bytes a token. The system prompt counts as constant. First with room for everything,
then over store sizes.
"""

import random
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from actors.engine.config import DeviceTierConfig
from actors.engine.device import create_device_tier
from actors.engine.ordering import canonical
from actors.engine.plain_text import Tokens
from actors.engine.plan import Plan
from actors.engine.segments import Segments
from kvstore.config import StoreConfig
from kvstore.keys import make_path, make_root
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Layout, SegmentKey
from kvstore.types import Path as Chain
from tests.bench.harness import Options, Result, read_jsonl, shared_data, tracked

LAYOUT = Layout(num_layers=1, num_kv_heads=1, num_tokens=1, head_dim=16, dtype="bfloat16")
"""64 bytes a token."""
MODES = ("ordered", "canonical", "independent")
SIZES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Of the store, in distinct passage tokens of the trace."""
LARGE = 8.0
PREFIX: Tokens = tuple(range(16))
_VOCABULARY = 49_152

Passages = tuple[tuple[int, int], ...]
"""Ids and token counts of a request's passages."""


def run(options: Options) -> Result:
    requests = load_requests()[: 600 if options.quick else None]
    distinct = dict(passage for request in requests for passage in request)
    total = sum(distinct.values())
    rows: list[dict[str, Any]] = []
    figures: dict[str, float] = {}
    for size in (LARGE,) if options.quick else (LARGE, *SIZES):
        for mode in MODES:
            share = replay(requests, mode, int(size * total))
            rows.append({"mode": mode, "store": size, "reused": round(share, 4)})
            if size == LARGE:
                figures[f"reused_{mode}"] = round(share, 4)
    config = {"requests": len(requests), "distinct_passage_tokens": total, "layout": str(LAYOUT)}
    artifacts = []
    if options.json_path and not options.quick:
        picture = Path(options.json_path).with_suffix(".png")
        draw(rows, picture)
        artifacts.append(picture.name)
    return Result(config, figures, rows, artifacts)


def load_requests() -> list[Passages]:
    """In the order of time; a passage that stands twice in a request stays."""
    lines = read_jsonl(shared_data("ragpulse") / "trace.jsonl")
    found = [tuple((int(p["id"]), int(p["tokens"])) for p in line["passages"]) for line in lines]
    return [passages for passages in found if passages]


def replay(requests: Sequence[Passages], mode: str, capacity_tokens: int) -> float:
    """Share of the passage tokens that were found in a store of so many tokens."""
    nbytes = capacity_tokens * LAYOUT.nbytes
    with TemporaryDirectory() as folder:
        config = StoreConfig(dram_bytes=max(nbytes, 2**20), dram_dir=folder, ssd_dir="")
        store = KVStore(config, node="bench")
        client = LocalStoreClient(store, folder)
        device = create_device_tier(client, torch.device("cpu"), DeviceTierConfig())
        segments = Segments(client, device)
        found = asked = 0
        for request in tracked(list(requests), f"{mode}, {capacity_tokens} tokens"):
            paths = PATHS[mode](request, segments)
            found += _reused(segments, paths)
            asked += sum(tokens for _, tokens in request)
        client.close()
        store.close()
    return found / asked


def _reused(segments: Segments, paths: Sequence[Chain]) -> int:
    """Passage tokens of a request that are there; the others are there afterwards."""
    with segments.lease(paths, time.monotonic() + 60) as lease:
        reused = 0
        for path in paths:
            for spec in path[1:]:
                if spec.key in lease.tickets:
                    break
                reused += spec.layout.num_tokens
        written: dict[SegmentKey, torch.Tensor] = {}
        for ticket in list(lease.tickets.values()):
            extent = segments.sink(lease, ticket.spec)
            if extent is not None:
                written[ticket.spec.key] = extent.zero_()
        segments.publish(lease, written)
    return reused


def _plan(request: Passages) -> Plan:
    root = make_root(b"bench", "bench")
    pieces = (PREFIX, *(text_of(*passage) for passage in request))
    return Plan(root, pieces, make_path(root, pieces, LAYOUT), (), ())


def _ordered(request: Passages, segments: Segments) -> list[Chain]:
    return [_plan(request).path]


def _canonical(request: Passages, segments: Segments) -> list[Chain]:
    return [canonical(_plan(request), segments, LAYOUT).path]


def _independent(request: Passages, segments: Segments) -> list[Chain]:
    return chains_of(request)


def chains_of(request: Passages) -> list[Chain]:
    """A chain for each passage. One that stands twice counts twice, as it does in the ceiling."""
    return [_plan((passage,)).path for passage in request]


PATHS: dict[str, Callable[[Passages, Segments], list[Chain]]] = {
    "ordered": _ordered,
    "canonical": _canonical,
    "independent": _independent,
}


@cache
def text_of(passage: int, num_tokens: int) -> Tokens:
    """A fixed piece of random tokens for each id."""
    rng = random.Random(passage)
    return tuple(rng.randrange(_VOCABULARY) for _ in range(num_tokens))


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for mode in MODES:
        line = sorted((r["store"], r["reused"]) for r in rows if r["mode"] == mode)
        axes.plot(*zip(*line, strict=True), marker="o", label=mode)
    axes.set_xscale("log")
    axes.set_xlabel("store size / distinct passage tokens of the trace")
    axes.set_ylabel("passage tokens reused")
    axes.set_ylim(0, 1)
    axes.legend()
    figure.savefig(path, dpi=120)
