"""A restart with 10,000 segments of 64 KiB on the SSD."""

import statistics
import time
from pathlib import Path

from kvstore.checksum import segment_crcs
from kvstore.codec import Header, encode_header
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Layout
from tests.bench.harness import Options
from tests.bench.store.segments import config, specs

_LAYOUT = Layout(num_layers=4, num_kv_heads=2, num_tokens=64, head_dim=32, dtype="bfloat16")
"""64 KiB."""


def measure(folder: Path, options: Options) -> tuple[dict[str, float], list[dict[str, object]]]:
    number, repetitions = (2000, 3) if options.quick else (10_000, 5)
    segments = specs(number, _LAYOUT)
    home = folder / "recovery"
    data = memoryview(bytearray(_LAYOUT.nbytes))
    for spec in segments:  # as the tier would write them, without 10,000 syncs
        digits = spec.key.digest.hex()
        path = home / "ssd" / digits[0] / digits[1] / f"{spec.key}.00000000.segment"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_header(Header(spec, segment_crcs(spec, data))) + data)
    settings = config(home)
    first, rates = [], []
    for i in range(repetitions):
        began = time.perf_counter()
        store = KVStore(settings, "bench")
        client = LocalStoreClient(store, settings.dram_dir)
        acquired = client.acquire([(segments[i * 37],)], 30)
        first.append(time.perf_counter() - began)
        assert len(acquired.hits) == 1
        client.close()
        store.close()
        began = time.perf_counter()
        store = KVStore(settings, "bench")
        assert store.flush(60)
        rates.append(number / (time.perf_counter() - began))
        assert store.stats().ssd.num_segments == number
        store.close()
    rows: list[dict[str, object]] = [
        {
            "what": f"first hit with {number} files, s",
            "value": round(statistics.median(first), 3),
            "min": round(min(first), 3),
            "max": round(max(first), 3),
        },
        {
            "what": "full recovery, files/s",
            "value": round(statistics.median(rates)),
            "min": round(min(rates)),
            "max": round(max(rates)),
        },
    ]
    figures = {
        "recover_files_per_s": statistics.median(rates),
        "first_hit_s": statistics.median(first),
    }
    return figures, rows
