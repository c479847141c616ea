"""The picture of a run: loss of every step, MRR of the held-out questions."""

from importlib.util import find_spec
from pathlib import Path

from actors.errors import UnavailableError
from actors.training.history import History


def require_matplotlib() -> None:
    """Before hours of training, not behind them."""
    if find_spec("matplotlib") is None:
        raise UnavailableError(
            "training needs the packages of an extra: pip install 'hyperrag[train]'"
        )


def plot(history: History, path: Path) -> None:
    """Write a PNG. Without pyplot: no display and no global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    left = figure.add_subplot()
    steps = range(1, len(history.losses) + 1)
    left.plot(steps, history.losses, color="tab:blue", alpha=0.5, label="loss, batch")
    left.set(xlabel="step", ylabel="loss", ylim=(0, None))
    lines = left.get_lines()
    if history.held_out:
        at = [row.step for row in history.held_out]
        left.plot(
            at,
            [row.loss for row in history.held_out],
            "o-",
            color="tab:blue",
            label="loss, held out",
        )
        right = left.twinx()
        right.plot(
            at,
            [row.mrr for row in history.held_out],
            "s-",
            color="tab:orange",
            label="MRR, held out",
        )
        right.set(ylabel="MRR", ylim=(0, 1.02))
        lines = [*left.get_lines(), *right.get_lines()]
    left.legend(handles=list(lines), loc="center right")
    figure.savefig(path, dpi=120)
