"""What the lossy codecs change: KV, reranker scores and orders, greedy answers; and their speed.

Every arm reads the same stored KV of real passages; an arm with a codec reads it as the codec would
give it back. So differences are the codec's alone. Speeds are of one thread.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.engine.config import ModelConfig
from kvstore.checksum import layer_bytes
from kvstore.compression import Codec, create_codec
from kvstore.config import CODECS
from kvstore.floats import Floats, to_float32
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired, Dtype, Extent, Layout, SegmentKey
from tests.bench.asking import (
    NEW_TOKENS,
    NUM_CANDIDATES,
    Scores,
    answer,
    kendall,
    order,
    question_lists,
    scores,
)
from tests.bench.corpus import Lists
from tests.bench.engines import Bench, bench
from tests.bench.harness import Options, Result, tracked

SPEED_TOKENS = 256
STORED = {"float32": np.float32, "bfloat16": np.uint16, "float16": np.float16}
SUFFIXES: dict[Dtype, str] = {"bfloat16": "", "float32": "_fp32"}
"""What the figures of a dtype end with."""


class CodedClient(LocalStoreClient):
    """Reads every stored segment as if it came back through a codec; remembers how far it moved."""

    def __init__(self, store: KVStore, dram_dir: str, codec: Codec) -> None:
        super().__init__(store, dram_dir)
        self.codec = codec
        self.powers: dict[SegmentKey, NDArray[np.float64]] = {}
        """[2 (error, KV), num_layers, 2 (keys, values)]: sums of squares, once per segment."""

    def view(self, acquired: Acquired, extent: Extent) -> memoryview:
        spec = next(hit.spec for hit in acquired.hits.values() if hit.extent == extent)
        data = super().view(acquired, extent)
        coded = memoryview(bytearray(extent.nbytes))
        for i in range(spec.layout.num_layers):
            encoded = self.codec.encode_layer(spec.layout, layer_bytes(spec, data, i))
            self.codec.decode_layer(spec.layout, encoded, layer_bytes(spec, coded, i))
        if spec.key not in self.powers:
            before, after = _numbers(spec.layout, data), _numbers(spec.layout, coded)
            self.powers[spec.key] = np.stack([_power(after - before), _power(before)])
        return coded

    def errors(self) -> NDArray[np.float64]:
        """RMS of the error over RMS of the KV, [num_layers, 2 (keys, values)]."""
        error, kv = np.sum(list(self.powers.values()), axis=0)
        return np.asarray(np.sqrt(error / kv))


def run(options: Options) -> Result:
    num = 4 if options.quick else 20
    lists = question_lists(num, options.seed)
    figures: dict[str, float] = {"num_lists": num}
    rows: list[dict[str, Any]] = []
    for dtype, suffix in SUFFIXES.items():
        with bench(ModelConfig(dtype=dtype)) as parts:
            found = {codec.name: arm for codec, arm in _arms(parts, lists, dtype)}
        for codec, arm in found.items():
            figures |= {f"{name}_{codec}{suffix}": value for name, value in arm.items()}
        for name in next(iter(found.values())):
            rows.append({"what": name, "dtype": dtype} | {c: arm[name] for c, arm in found.items()})
    return Result(
        config={
            "models": [asdict(ModelConfig(dtype=dtype)) for dtype in SUFFIXES],
            "candidates": NUM_CANDIDATES,
            "new_tokens": NEW_TOKENS,
            "speed_tokens": SPEED_TOKENS,
        },
        figures=figures,
        rows=rows,
    )


def _arms(parts: Bench, lists: Lists, dtype: Dtype) -> Iterator[tuple[Codec, dict[str, float]]]:
    """Every lossy codec, with its figures against the KV as it was computed."""
    reranker, generator = parts.reranker(), parts.generator()
    for item in tracked(lists, f"computing, {dtype}"):
        scores(reranker, item), answer(generator, item)
    raw = [scores(reranker, item) for item in lists]
    answers = [answer(generator, item) for item in lists]
    layout = replace(parts.runtime.decoder.layout, num_tokens=SPEED_TOKENS)
    for codec in (codec for name in CODECS if not (codec := create_codec(name)).lossless):
        with closing(CodedClient(parts.store, parts.store_dir, codec)) as client:
            arm = replace(parts, client=client)
            reranker, generator = arm.reranker(), arm.generator()
            found = [scores(reranker, item) for item in tracked(lists, f"{codec.name}, {dtype}")]
            same = [answer(generator, i) == a for i, a in zip(lists, answers, strict=True)]
        figures = _errors(client.errors()) | _changes(raw, found) | _speeds(codec, layout)
        figures["greedy_equal"] = sum(same) / len(same)
        figures["ratio"] = codec.encoded_layer_nbytes(layout) / layout.layer_nbytes
        yield codec, {name: float(f"{value:.4g}") for name, value in figures.items()}


def _errors(errors: NDArray[np.float64]) -> dict[str, float]:
    keys, values = errors.max(axis=0)
    return {"kv_error": max(keys, values), "k_error": keys, "v_error": values}


def _changes(raw: list[Scores], coded: list[Scores]) -> dict[str, float]:
    pairs = list(zip(raw, coded, strict=True))
    diffs = np.abs(np.array(raw) - np.array(coded))
    taus = [kendall(a, b) for a, b in pairs]
    return {
        "max_score_diff": float(diffs.max()),
        "mean_score_diff": float(diffs.mean()),
        "tau": statistics.mean(taus),
        "min_tau": min(taus),
        "top1_equal": sum(order(a)[0] == order(b)[0] for a, b in pairs) / len(pairs),
    }


def _speeds(codec: Codec, layout: Layout) -> dict[str, float]:
    """GB of decoded bytes a second, all layers of a segment, median of 21."""
    drawn = np.random.default_rng(0).standard_normal(layout.shape).astype(np.float32)
    bits = drawn.view(np.uint32) >> 16
    data = memoryview((drawn if layout.dtype == "float32" else bits.astype(np.uint16)).tobytes())
    size, into = layout.layer_nbytes, memoryview(bytearray(layout.nbytes))
    spans = [slice(i * size, (i + 1) * size) for i in range(layout.num_layers)]
    encoded = [codec.encode_layer(layout, data[span]) for span in spans]

    def decode() -> None:
        for one, span in zip(encoded, spans, strict=True):
            codec.decode_layer(layout, one, into[span])

    encode_s = _median_s(lambda: [codec.encode_layer(layout, data[span]) for span in spans])
    return {
        "encode_gb_s": layout.nbytes / encode_s / 1e9,
        "decode_gb_s": layout.nbytes / _median_s(decode) / 1e9,
    }


def _median_s(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(21):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _numbers(layout: Layout, data: memoryview) -> Floats:
    return to_float32(np.frombuffer(data, STORED[layout.dtype]).reshape(layout.shape))


def _power(numbers: Floats) -> NDArray[np.float64]:
    """Sums of squares [num_layers, 2 (keys, values)]."""
    powers: NDArray[np.float64] = np.square(numbers).sum(axis=(2, 3, 4), dtype=np.float64)
    return powers
