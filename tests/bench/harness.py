"""What every scenario shares: the form of its result, the host it ran on, a table on the screen."""

import argparse
import json
import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import psutil
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

T = TypeVar("T")

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


class CannotRun(Exception):
    """The scenario's requirements are not met here; the message says which."""


@dataclass(frozen=True, slots=True)
class Options:
    quick: bool
    seed: int
    json_path: str | None = None
    own: argparse.Namespace = field(default_factory=argparse.Namespace)
    """What the scenario's `add_options` has added to the command line."""


@dataclass(slots=True)
class Result:
    """`figures` are the keys of the benchmark contract; `rows` hold what they come from."""

    config: dict[str, Any]
    figures: dict[str, float]
    rows: list[dict[str, Any]] = field(default_factory=list)
    artifacts: list[str] = field(default_factory=list)


def shared_data(name: str) -> Path:
    """Folder of a shared data set; CannotRun where it is absent."""
    folder = SHARED_DATA / name
    if not folder.is_dir():
        raise CannotRun(f"needs the data set {name!r} in {SHARED_DATA.name}/ beside the checkout")
    return folder


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


@contextmanager
def folder_on_disk() -> Iterator[Path]:
    """A temporary folder on a disk: the system's folder for temporary files may be memory."""
    parent = Path.home() / ".cache" / "hyperrag" / "bench"
    parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


def tracked(items: Sequence[T], what: str) -> Iterator[T]:
    """The items, with a progress bar on standard error."""
    yield from track(items, what, console=Console(stderr=True), transient=True)


def paired(
    baseline: Callable[[], float], ours: Callable[[], float], repetitions: int
) -> tuple[list[float], list[float]]:
    """Seconds of both, alternating: whatever else the machine does hits both alike."""
    pairs = [(baseline(), ours()) for _ in range(repetitions)]
    return [b for b, _ in pairs], [o for _, o in pairs]


def spread(name: str, seconds: Sequence[float]) -> dict[str, Any]:
    return {
        "arm": name,
        "median_s": round(statistics.median(seconds), 4),
        "min_s": round(min(seconds), 4),
        "max_s": round(max(seconds), 4),
        "repetitions": len(seconds),
    }


def host() -> dict[str, Any]:
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "ram_bytes": psutil.virtual_memory().total,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "disk": {"free_bytes": shutil.disk_usage(".").free},
    }


def finish(name: str, result: Result, json_path: str | None) -> None:
    """Print the table and the last line; write the file."""
    _print_rows(name, result.rows)
    if json_path is not None:
        packages = (
            "torch", "triton", "transformers", "ray", "numpy", "faiss-cpu", "sentence-transformers",
        )  # fmt: skip
        document = {
            "name": name,
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "host": host(),
            "versions": {package: _version(package) for package in packages},
            "config": result.config,
            "figures": result.figures,
            "rows": result.rows,
            "artifacts": result.artifacts,
        }
        Path(json_path).write_text(json.dumps(document, indent=1, default=str) + "\n")
    print(f"{name}: " + " ".join(f"{k}={_plain(v)}" for k, v in result.figures.items()))


def _version(package: str) -> str | None:
    """None where it is not installed: a GPU machine need not have all of them."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _plain(figure: float) -> str:
    return str(int(figure)) if float(figure).is_integer() else f"{figure:.4g}"


def _print_rows(name: str, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*columns, title=name)
    for row in rows:
        table.add_row(*(str(row.get(column, "")) for column in columns))
    Console(width=140).print(table)
