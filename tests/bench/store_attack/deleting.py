"""Passages that are removed while the disk fails, and what a restart finds of them."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from kvstore.errors import KVStoreError
from tests.bench.harness import Options
from tests.kvstore.machine.disk import FAILURES, FAULTY, HANGS
from tests.kvstore.machine.universe import PATHS
from tests.kvstore.machine.world import World
from tests.kvstore.segments import store_path

_REMOVED = PATHS[1:4]
_STORED = PATHS[:7]
_PATIENCE_S = 10.0
_HANGS = (*HANGS, ("unlink hang",), ("sync hang",), ("create hang",), ("rename hang",))


def measure(options: Options) -> tuple[dict[str, float], list[dict[str, object]]]:
    """A removal that raises has promised nothing; one that returns has."""
    rows: list[dict[str, object]] = []
    for lines in (*FAILURES, *_HANGS):
        for again in (World.restart, World.crash):
            rows.append(_removed_while(lines, again))
    rows.append(_removed_after_a_blind_start())
    found = sum(int(str(row["found_again"])) for row in rows)
    late = [row for row in rows if row["answer"] == "none in time"]
    tidy: list[dict[str, object]] = [
        row for row in rows if row["found_again"] or row["answer"] != "done"
    ]
    tidy.append({"what": "removals on failing disks", "removals": len(rows), "late": len(late)})
    return {"deleted_found_again": found}, tidy


def _removed_while(lines: tuple[str, ...], again: Callable[[World], None]) -> dict[str, object]:
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        store_path(world.processes[0], *_STORED)
        world.recovered()
        world.disk.fail(lines)
        answer = _remove(world)
        again(world)
        row = _row(f"{lines[0]}, {again.__name__}", answer, world)
        world.close()
    return row


def _removed_after_a_blind_start() -> dict[str, object]:
    """The disk could not be read when the store started; it could when the passages were
    removed."""
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        store_path(world.processes[0], *_STORED)
        world.recovered()
        world.config = replace(world.config, faults=("open eio",))
        world.restart()
        world.recovered()
        world.disk.mend()
        answer = _remove(world)
        world.config = replace(world.config, faults=FAULTY)
        world.restart()
        row = _row("a start that read nothing", answer, world)
        world.close()
    return row


def _remove(world: World) -> str:
    """What the caller was told."""
    answers: list[str] = []

    def remove() -> None:
        try:
            world.store.remove_tags([path[-1].tag for path in _REMOVED])
            answers.append("done")
        except KVStoreError as error:
            answers.append(type(error).__name__)

    thread = threading.Thread(target=remove, daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    return answers[0] if answers else "none in time"


def _row(what: str, answer: str, world: World) -> dict[str, object]:
    world.recovered()
    acquired = world.processes[0].acquire(_REMOVED, _PATIENCE_S, claim=False)
    removed = {path[-1].key for path in _REMOVED}
    found = removed & {*acquired.hits, *world.store.locate(removed)}
    again = len(found) if answer == "done" else 0
    return {"what": f"removed, {what}", "answer": answer, "found_again": again}
