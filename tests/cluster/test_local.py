"""A local cluster that is stopped at awkward moments, as a user would: nothing may stay behind."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.running import Running

Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Running] = []

    def make(**overrides: object) -> Running:
        started.append(Running(tmp_path, **overrides))
        return started[-1]

    yield make
    for running in started:
        running.end()


@pytest.mark.ray
@pytest.mark.parametrize("num_children", [1, 4])
def test_ctrl_c_twice_while_ray_starts(start: Start, num_children: int) -> None:
    running = start()
    running.wait_for("starting")
    running.wait_for_children(num_children)
    running.signal(signal.SIGINT, group=True)
    time.sleep(0.2)
    running.signal(signal.SIGINT, group=True)
    assert running.wait() != 0
    assert running.left() == []


@pytest.mark.ray
def test_ctrl_c_thrice_while_deployments_start(start: Start) -> None:
    running = start()
    running.wait_for("Reranker: updating")
    assert running.left()
    for _ in range(3):
        running.signal(signal.SIGINT, group=True)
        time.sleep(0.3)
    assert running.wait() != 0
    assert running.left() == []


@pytest.mark.ray
def test_a_deployment_that_cannot_start_ends_it_with_its_message(start: Start) -> None:
    running = start(models={"reranker": {"source": "missing"}})
    assert running.wait(240) == 1
    assert "DeployError: Reranker" in running.lines[-1]
    assert "there is no such model" in running.lines[-1]
    assert running.left() == []


@pytest.mark.ray
def test_a_kill_takes_the_cluster_along(start: Start) -> None:
    """All but two small agents, which end by themselves minutes after their parent is gone. A
    worker that was just starting looks for Ray's control store for a minute first."""
    running = start()
    running.wait_for("Reranker: updating")
    assert running.left()
    running.signal(signal.SIGKILL)
    running.process.wait(5)
    deadline = time.monotonic() + 150
    while (
        left := [p for p in running.left() if "agent" not in p.lower()]
    ) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []
