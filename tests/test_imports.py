"""Imports go one way down, and the light packages stay light."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tracked import PACKAGES, ROOT, tracked

HEAVY = {"ray", "torch", "transformers", "sentence_transformers", "faiss", "vllm", "pandas"}


def test_the_layers_hold() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def loaded_by(*modules: str) -> set[str]:
    """Top-level names in sys.modules of a fresh interpreter that imported `modules`."""
    code = f"import sys, {', '.join(modules)}; print(*{{m.split('.')[0] for m in sys.modules}})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def modules_below(folder: str) -> list[str]:
    """Modules whose source is in `folder`; without triton, not those that are kernels in it."""
    files = tracked(f"{folder}/*.py")
    if importlib.util.find_spec("triton") is None:
        files = [path for path in files if "\nimport triton\n" not in path.read_text()]
    parts = (path.relative_to(ROOT).with_suffix("").parts for path in files)
    return [".".join(part for part in each if part != "__init__") for each in parts]


@pytest.mark.parametrize(
    ("modules", "banned"),
    [
        (["hyperrag"], HEAVY | {"cluster", "pyarrow", "numpy", "fastapi", "pydantic"}),
        (["hyperrag.cli"], HEAVY | {"pyarrow", "fastapi"}),
        (["cluster.config"], HEAVY | {"pyarrow", "fastapi"}),
        (modules_below("kvstore"), HEAVY | {"pyarrow", "pydantic", "httpx"}),
        (modules_below("actors/engine"), {"ray", "faiss", "vllm", "sentence_transformers"}),
        (modules_below("actors/retrieval"), {"ray", "vllm"}),
    ],
    ids=["hyperrag", "the command", "configuration", "kvstore", "engine", "retrieval"],
)
def test_a_fresh_import_loads_nothing_heavy(modules: list[str], banned: set[str]) -> None:
    assert not loaded_by(*modules) & banned


def test_every_folder_of_code_and_tests_is_a_package() -> None:
    folders = {path.parent for root in (*PACKAGES, "tests") for path in tracked(f"{root}/*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
