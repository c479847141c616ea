"""Real `kill -9` of a process that owns a store, again and again over one folder."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from kvstore import arena_file, holders
from kvstore.store import KVStore
from tests.kvstore.crash.lives import Verdict, verify
from tests.kvstore.crash.mortal import chain, config_of
from tests.tracked import ROOT

LIFE_S = 0.5
EARLY_SHARE = 0.1
"""Of the kills: at any time in a start, recovery included."""


def kill_often(count: int, seed: int, work: Path) -> Verdict:
    """One store after the other on the folder `work`; what each of them left is verified."""
    rng, stored, total = random.Random(seed), set[int](), Verdict()
    with TemporaryDirectory(dir="/dev/shm") as memory:
        (work / "memory").symlink_to(memory)
        for _ in range(count):
            _account(_lines_of_a_life(work, rng), stored)
            total += _inspect(work, stored)
    return total


def _lines_of_a_life(work: Path, rng: random.Random) -> list[str]:
    """What a store said until it was killed at a random moment."""
    command = [sys.executable, "-m", "tests.kvstore.crash.mortal", str(work)]
    command.append(str(rng.randrange(2**32)))
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    if rng.random() >= EARLY_SHARE:
        assert child.stdout.readline() == "ready\n", "the store did not start"
    time.sleep(rng.uniform(0, LIFE_S))
    child.kill()
    said, _ = child.communicate()
    assert child.returncode == -signal.SIGKILL, "the store ended by itself"
    return said.splitlines()


def _account(lines: Sequence[str], stored: set[int]) -> None:
    for line in lines:
        word, *numbers = line.split()
        if word == "stored":
            stored.update(map(int, numbers))
        elif word == "removing":
            stored.difference_update(map(int, numbers))


def _inspect(work: Path, stored: set[int]) -> Verdict:
    """Start the next store, look at its books and its memory, then read its files."""
    config = config_of(work)
    store = KVStore(config, "node")
    prefixes = (arena_file.PREFIX, holders.PREFIX)
    left = [path for prefix in prefixes for path in Path(config.dram_dir).glob(f"{prefix}*")]
    problems = store.check().problems
    store.close()
    specs = {spec for number in stored for spec in chain(number)}
    verdict = verify(Path(config.ssd_dir), specs)
    verdict.unbalanced += len(problems)
    verdict.leftovers += len(left) - 1
    return verdict
