"""How long a question needs a GPU, which it says: "... rank=SECONDS write=SECONDS"; and who holds
one.

Every replica leaves a file with the id of its process, by which its process is known for as long as
it lives, and another when Serve has stopped it as it should.
"""

import os
import re
from pathlib import Path

import psutil

PASSAGES = 5
"""That a question ranks; `rank` is for so many. Few, where a model computes on shared cores what
is padded."""


class Holding:
    """This process holds a GPU, from now to its end."""

    def __init__(self, pool: str, run_dir: str) -> None:
        self._folder = Path(run_dir)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._name = f"{os.getpid()}.{pool}"
        (self._folder / self._name).touch()

    def stopped(self) -> None:
        (self._folder / f"{self._name}.stopped").touch()


def held(run_dir: Path) -> dict[str, int]:
    """Processes that hold a GPU, by pool: from the start of the constructor to their end."""
    count = {"rerank": 0, "generate": 0}
    for path in run_dir.glob("[0-9]*.*"):
        pid, pool, *stopped = path.name.split(".")
        if not stopped and _lives(int(pid)):
            count[pool] += 1
    return count


def rank_s(question: str, num_passages: int) -> float:
    return _seconds("rank", question) * num_passages / PASSAGES


def write_s(question: str) -> float:
    return _seconds("write", question)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _seconds(name: str, text: str) -> float:
    found = re.search(rf"{name}=([\d.]+)", text)
    return float(found[1]) if found else 0.0
