"""Arms side by side: a table, JSON rows, a picture."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kvstore.replay.simulator import Outcome, Setting


@dataclass(frozen=True, slots=True)
class Row:
    policy: str
    prefetch: bool
    hit_dram: float
    """Share of the reusable tokens."""
    hit_ssd: float
    ssd_read_gb: float
    ttft_mean_s: float
    ttft_p50_s: float
    ttft_p99_s: float
    gain: float
    """Mean TTFT of the first arm over this one's."""
    prefetch_used: int
    prefetch_late: int
    prefetch_unused: int


def row(setting: Setting, outcome: Outcome, first: Outcome) -> Row:
    ordered = sorted(outcome.ttft_s)
    mean = statistics.mean(ordered)
    return Row(
        policy=setting.policy,
        prefetch=setting.prefetch,
        hit_dram=round(outcome.dram_tokens / max(1, outcome.tokens), 4),
        hit_ssd=round(outcome.ssd_tokens / max(1, outcome.tokens), 4),
        ssd_read_gb=round(outcome.ssd_read_bytes / 1e9, 2),
        ttft_mean_s=round(mean, 4),
        ttft_p50_s=round(statistics.median(ordered), 4),
        ttft_p99_s=round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], 4),
        gain=round(statistics.mean(first.ttft_s) / mean, 3),
        prefetch_used=outcome.prefetch_used,
        prefetch_late=outcome.prefetch_late,
        prefetch_unused=outcome.prefetch_unused,
    )


def table(rows: Sequence[Row]) -> str:
    cells = [[*asdict(rows[0])], *([_text(value) for value in asdict(r).values()] for r in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(lines)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def draw(rows: Sequence[Row], title: str, file: Path) -> None:
    """Mean TTFT and hit shares of every arm. Needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.4 * len(rows) + 1.6), layout="constrained")
    times, hits = figure.subplots(1, 2, sharey=True)
    names = [f"{r.policy}{' + prefetch' if r.prefetch else ''}" for r in rows]
    times.barh(names, [r.ttft_mean_s for r in rows], color="tab:blue")
    times.set_xlabel("mean TTFT, modelled seconds")
    hits.barh(names, [r.hit_dram for r in rows], color="tab:green", label="DRAM")
    left = [r.hit_dram for r in rows]
    hits.barh(names, [r.hit_ssd for r in rows], left=left, color="tab:orange", label="SSD")
    hits.set_xlabel("share of reusable tokens found")
    hits.legend()
    times.invert_yaxis()
    figure.suptitle(title)
    figure.savefig(file, dpi=120)
