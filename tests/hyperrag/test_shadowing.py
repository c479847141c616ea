"""Files of the user's under the names of our packages, in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tracked import ROOT

MODULE = [sys.executable, "-m", "hyperrag", "--version"]
SCRIPT = "import sys; from hyperrag.cli import main; main()"
IMPORT = "import hyperrag; print(hyperrag.Document)"
HIDING = ["actors/__init__.py", "cluster.py", "kvstore/__init__.py"]


def hide(folder: Path, file: str) -> Path:
    """A file of a user's project."""
    path = folder / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("raise SystemExit('taken for ours')\n")
    return path


def run(command: list[str], cwd: Path, *path: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((*path, str(ROOT)))}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """As pip writes it."""
    script = tmp_path / "bin" / "hyperrag"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    return [sys.executable, str(script), "--version"]


@pytest.mark.parametrize("file", HIDING)
def test_an_import_says_which_file_hides_which_package(tmp_path: Path, file: str) -> None:
    path, name = hide(tmp_path, file), file.partition("/")[0].removesuffix(".py")
    done = run([sys.executable, "-c", IMPORT], tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "ShadowedError" in last and f"{path} hides HyperRAG's package '{name}'" in last
    assert "rename it" in last and "python -P" in last
    assert run([sys.executable, "-P", "-c", IMPORT], tmp_path).returncode == 0


def test_a_module_that_is_loaded_already_is_named(tmp_path: Path) -> None:
    path = tmp_path / "actors.py"
    path.write_text("")
    done = run([sys.executable, "-c", f"import actors; {IMPORT}"], tmp_path)
    assert f"{path} hides HyperRAG's package 'actors'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("entries", [(), ("", ".", "{cwd}")])
def test_the_command_does_not_look_in_the_working_directory(
    tmp_path: Path, command: list[str], entries: tuple[str, ...]
) -> None:
    for file in (*HIDING, "yaml.py"):
        hide(tmp_path, file)
    for words in (command, MODULE):
        done = run(words, tmp_path, *(entry.format(cwd=tmp_path) for entry in entries))
        assert done.returncode == 0, done.stderr


def test_its_children_do_not_look_there_either(tmp_path: Path, command: list[str]) -> None:
    hide(tmp_path, "cluster.py")
    asking = "import os, hyperrag; print(os.environ['PYTHONPATH'])"
    Path(command[1]).write_text(asking)
    done = run(command, tmp_path, "", str(tmp_path), "lib")
    assert done.stdout.strip() == os.pathsep.join(("lib", str(ROOT)))


@pytest.mark.parametrize("file", HIDING)
def test_another_folder_of_the_path_is_one_line(
    tmp_path: Path, command: list[str], file: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    path = hide(other, file)
    for words in (command, MODULE):
        done = run(words, tmp_path, str(other))
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        assert line.startswith(f"hyperrag: {path} hides HyperRAG's package")


def test_a_folder_without_code_hides_nothing(tmp_path: Path) -> None:
    for name in ("actors", "cluster", "kvstore"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.csv").write_text("")
    assert run([sys.executable, "-c", IMPORT], tmp_path).returncode == 0


def test_a_checkout_is_used_from_within() -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(MODULE, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
