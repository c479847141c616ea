import multiprocessing
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from actors.engine.compute import ComputeSlot, use_threads
from actors.engine.config import EngineConfig
from actors.errors import UnavailableError


def _hold(run_dir: str, pipe: Connection, rounds: int, hold_s: float) -> None:
    slot = ComputeSlot(EngineConfig(), run_dir)
    pipe.send("ready")
    pipe.recv()
    for _ in range(rounds):
        with slot.held():
            pipe.send(time.monotonic())
            time.sleep(hold_s)
            pipe.send(time.monotonic())


def _start(
    tmp_path: Path, rounds: int, hold_s: float
) -> tuple[multiprocessing.Process, Connection]:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_hold, args=(str(tmp_path), theirs, rounds, hold_s), daemon=True
    )
    process.start()
    assert ours.recv() == "ready"
    return process, ours  # type: ignore[return-value]


@pytest.mark.slow
def test_processes_never_overlap_and_take_turns(tmp_path: Path) -> None:
    workers = [_start(tmp_path, rounds=10, hold_s=0.01) for _ in range(2)]
    for _, pipe in workers:
        pipe.send("go")
    spans = []
    for n, (process, pipe) in enumerate(workers):
        spans += [(pipe.recv(), pipe.recv(), n) for _ in range(10)]
        process.join(10)
    spans.sort()
    for (_, end, _), (begin, _, _) in zip(spans, spans[1:], strict=False):
        assert begin >= end
    turns = sum(a[2] != b[2] for a, b in zip(spans, spans[1:], strict=False))
    assert turns >= 8


@pytest.mark.slow
def test_a_killed_holder_frees_the_slot(tmp_path: Path) -> None:
    process, pipe = _start(tmp_path, rounds=1, hold_s=60)
    pipe.send("go")
    pipe.recv()
    slot = ComputeSlot(EngineConfig(compute_wait_s=0.05), str(tmp_path))
    with pytest.raises(UnavailableError, match=r"compute_wait_s = 0\.05"), slot.held():
        pass
    process.kill()
    process.join(10)
    with slot.held():
        pass
    slot.close()


def test_without_a_slot_nothing_is_locked(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with ComputeSlot(EngineConfig(compute_slot=False), str(run_dir)).held():
        assert not run_dir.exists()


def test_configured_threads_reach_torch() -> None:
    try:
        assert use_threads(1) == 1
    finally:
        assert use_threads(0) >= 1


def test_who_holds_the_slot_may_hold_it_again_and_nobody_else(tmp_path: Path) -> None:
    slot, other = (ComputeSlot(EngineConfig(compute_wait_s=0.05), str(tmp_path)) for _ in range(2))
    refused: list[str] = []

    def hold() -> None:
        try:
            with slot.held():
                pass
        except UnavailableError as error:
            refused.append(str(error))

    with slot.held():
        with slot.held():
            pass
        thread = threading.Thread(target=hold)
        thread.start()
        thread.join(10)
        assert "another thread" in refused[0]
        with pytest.raises(UnavailableError), other.held():
            pass
    with other.held():
        pass
    slot.close()
    other.close()
