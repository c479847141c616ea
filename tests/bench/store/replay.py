"""What look-ahead and prefetch are worth on traces, in modelled time (a simulation)."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from kvstore.config import StoreConfig
from kvstore.replay.__main__ import main as replay_main
from tests.bench.harness import SHARED_DATA, Options


def measure(folder: Path, options: Options) -> tuple[dict[str, float], list[dict[str, object]]]:
    """The default policy with prefetch against LRU without, arrivals alike. The figure is the
    worse of the two generated workloads; the public trace, where it is there, is a row."""
    ragpulse = SHARED_DATA / "ragpulse" / "trace.jsonl"
    traces = [("zipf", "4"), ("drift", "4")]
    traces += [(str(ragpulse), "2")] if ragpulse.is_file() else []
    gains = {name: _gain(folder, name, dram, options) for name, dram in traces}
    rows: list[dict[str, object]] = [
        {"what": f"replay of {Path(name).parent.name or name}: mean TTFT, LRU without prefetch /"
                 f" {StoreConfig().policy} with", "value": gain}
        for name, gain in gains.items()
    ]  # fmt: skip
    return {"replay_ttft_gain": min(gains["zipf"], gains["drift"])}, rows


def _gain(folder: Path, trace: str, dram_gib: str, options: Options) -> float:
    found = folder / "replay.json"
    with redirect_stdout(StringIO()):
        status = replay_main(
            [trace, "--policy", StoreConfig().policy, "--dram", dram_gib, "--json", str(found),
             "--requests", "800" if options.quick else "0", "--seed", str(options.seed)]
        )  # fmt: skip
    assert status == 0, f"the replay of {trace} failed"
    gain: float = json.loads(found.read_text())[-1]["gain"]
    return gain
