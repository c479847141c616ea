"""What each arm completes in time, and how the split follows each load."""

from pathlib import Path
from typing import Any

import matplotlib

from cluster.autoscaling.config import AutoscalerConfig
from cluster.autoscaling.splits import Split
from tests.bench.autoscaler_sim.arms import Arm, Clairvoyant, Ours, static
from tests.bench.autoscaler_sim.loads import GPUS, Load, shifting
from tests.bench.autoscaler_sim.plant import Plant
from tests.bench.harness import Options

matplotlib.use("agg")
import matplotlib.pyplot as plt

ARMS = ("best_static", "serve_default", "ours", "clairvoyant")
COLOURS = ("#999999", "#d98e04", "#1769aa", "#2e8b57")


def draw(rows: list[dict[str, Any]], options: Options) -> list[str]:
    assert options.json_path is not None
    path = Path(options.json_path).with_suffix(".png")
    loads = shifting(3600.0)
    figure, axes = plt.subplots(len(loads), 2, figsize=(11, 9), width_ratios=(1, 3))
    for (left, right), row, load in zip(axes, rows, loads, strict=True):
        left.barh(ARMS[::-1], [row[arm] for arm in ARMS[::-1]], color=COLOURS[::-1])
        left.set_xlim(0, 1)
        left.set_title(f"{load.name}: completed in time", fontsize=9)
        first = Split(*map(int, row["split"].split("+")))
        for name, noted in _traces(load, first, options.seed).items():
            colour = COLOURS[ARMS.index(name)]
            right.step(noted.times, noted.counts, where="post", label=name, color=colour)
        right.set_ylim(0, GPUS)
        right.set_title(f"reranker replicas of {GPUS} GPUs", fontsize=9)
    axes[0][1].legend(fontsize=8)
    axes[-1][1].set_xlabel("seconds (simulated)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return [path.name]


class _Noted:
    """An arm, and what it decided when."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self.times: list[float] = []
        self.counts: list[int] = []

    def __call__(self, now: float, plant: Plant) -> Split:
        targets = self._arm(now, plant)
        self.times.append(now)
        self.counts.append(targets.rerank)
        return targets


def _traces(load: Load, first: Split, seed: int) -> dict[str, _Noted]:
    known, ours = Clairvoyant(load), Ours(AutoscalerConfig(gpus=GPUS))
    arms: dict[str, Arm] = {"best_static": static, "ours": ours, "clairvoyant": known}
    traces = {name: _Noted(arm) for name, arm in arms.items()}
    for name, noted in traces.items():
        Plant(load, known.first if name == "clairvoyant" else first, seed).run(noted)
    return traces
