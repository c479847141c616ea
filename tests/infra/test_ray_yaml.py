"""The cluster files of `ray up`: what Ray accepts, and what their commands name."""

import re
import shlex
from itertools import dropwhile
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start
from typer.core import TyperGroup
from typer.main import get_command

from cluster.config import load
from hyperrag.cli import app
from tests.tracked import ROOT

FOLDER = ROOT / "infra" / "ray"
FILES = sorted(FOLDER.glob("*.yaml"))
TYPER = cast(TyperGroup, get_command(app))
START = ("head_start_ray_commands", "worker_start_ray_commands")
MADE_BY_THE_OPERATOR = {"dist", "keys.yaml", "~/.ray/auth_token"}

pytestmark = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return tree


def test_ray_accepts_it(path: Path) -> None:
    config = prepare_config(read(path))
    validate_config(config)
    workers = [t["min_workers"] for t in config["available_node_types"].values()]
    assert sum(workers) == 2


def test_in_the_cloud_there_is_a_head_and_workers_with_gpus(path: Path) -> None:
    config = read(path)
    if config["provider"]["type"] == "local":
        return  # all machines are of one type
    types = config["available_node_types"]
    assert "GPU" not in types[config["head_node_type"]]["resources"]
    assert types["gpu"]["resources"]["GPU"] == 1


@pytest.mark.parametrize("key", START)
def test_its_start_commands_are_those_of_ray_and_hyperrag(path: Path, key: str) -> None:
    """Parsed as the programs would; nothing is run."""
    lines = [shlex.split(re.split(r"; *", line)[-1]) for line in read(path)[key]]
    lines = [words for words in lines if "bash" not in words]  # setup.sh, tested elsewhere
    commands = [list(dropwhile(lambda word: "=" in word, words)) for words in lines]
    programs = [tuple(words[:2]) for words in commands]
    assert programs[:2] == [("ray", "stop"), ("ray", "start")]
    assert programs[2:] == ([("hyperrag", "deploy")] if key.startswith("head") else [])
    start.make_context("start", commands[1][2:])
    for words in commands[2:]:
        TYPER.commands[words[1]].make_context(words[1], words[2:])


def test_what_it_copies_is_there(path: Path) -> None:
    sources = set(read(path)["file_mounts"].values())
    assert {s for s in sources - MADE_BY_THE_OPERATOR if not (ROOT / s).exists()} == set()
    assert "infra/ray/setup.sh" in sources


def test_keys_and_data_lie_where_the_machines_have_them(path: Path) -> None:
    """The folder that `setup.sh` makes, on the SSD."""
    (folder,) = re.findall(r"^data=(.*)$", (FOLDER / "setup.sh").read_text(), re.MULTILINE)
    config = load(ROOT / "configs" / "cluster.yaml", environ={})
    assert config.ingress.api_keys_file == f"{folder}/keys.yaml"
    assert "~/hyperrag/keys.yaml" in read(path)["file_mounts"]
    for written in (config.data_dir, config.store.ssd_dir, config.model_cache_dir):
        assert written.startswith(folder)


def test_memory_holds_the_arena_and_the_objects_of_ray(path: Path) -> None:
    """/dev/shm is made large enough for the configuration that is deployed."""
    text = path.read_text("utf-8")
    objects = {int(size) for size in re.findall(r"--object-store-memory=(\d+)", text)}
    (shm,) = {int(size) * 2**30 for size in re.findall(r"SHM_GIB=(\d+)", text)}
    arena = load(ROOT / "configs" / "cluster.yaml", environ={}).store.dram_bytes
    assert len(objects) == 1
    assert arena + max(objects) <= shm
