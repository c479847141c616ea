"""How far KV that was not computed behind what precedes it is from full attention's."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from actors.engine.config import FusionConfig
from tests.bench.fusion_quality.arms import Lab
from tests.bench.fusion_quality.prompts import Asked, Neighbours
from tests.bench.harness import tracked

Floats = NDArray[np.float64]


def deviation(lab: Lab, asked: Sequence[Asked], neighbours: Neighbours) -> Floats:
    """[raw and fused, L]: means over questions."""
    reuse = lab.fusion(FusionConfig().selection, 0.0)
    found = [
        lab.deviations(lab.plan(one, None), lab.plan(one, neighbours), reuse)
        for one in tracked(list(asked), "deviation of KV")
    ]
    return torch.stack(found).mean(0).double().numpy()


def draw(deviations: Mapping[str, Floats], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(deviations) + 1, 3.5), layout="constrained")
    panels = figure.subplots(1, len(deviations), squeeze=False)[0]
    for axes, (name, lines) in zip(panels, deviations.items(), strict=True):
        for label, line in zip(("raw", "fused"), lines, strict=True):
            axes.plot(range(len(line)), line, label=label)
        axes.set(title=name, xlabel="layer", ylabel="deviation of KV / norm", ylim=(0, None))
        axes.legend()
    figure.savefig(path, dpi=120)
