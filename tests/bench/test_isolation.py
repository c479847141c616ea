"""The instruments of `isolation`: each shows what it is there to show."""

from pathlib import Path

import pytest

from actors.engine.batcher import Batcher
from actors.engine.generate import Sequence
from actors.engine.jobs import Job
from tests.actors.engine.speaking import byte_fallback, runtime_of, speaking
from tests.bench.isolation import poisoned
from tests.bench.isolation.intertoken import Times
from tests.bench.isolation.poisons import BYTES, CANCELLATIONS, LENGTHS, NUMBERS

POISONS = (BYTES[0], CANCELLATIONS[1], LENGTHS[4], NUMBERS[0])


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poisoned, "REQUESTS", 10 * len(POISONS))


def disturbed(folder: Path) -> tuple[int, int]:
    runtime = runtime_of(speaking("llama", tokens=byte_fallback())[0], folder)
    return poisoned._disturbed("tiny", runtime, POISONS)


@pytest.mark.usefixtures("few")
def test_poisoned_requests_hurt_nobody_else(tmp_path: Path) -> None:
    assert disturbed(tmp_path) == (0, 0)


@pytest.mark.usefixtures("few")
def test_innocent_requests_that_end_with_a_poisoned_one_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Batcher._step

    def together(
        batcher: Batcher, active: list[tuple[Job, Sequence]]
    ) -> dict[int, tuple[Job, Exception]]:
        if any(job.request.sampling.temperature == 2.0 for job, _ in active):
            return {i: (job, RuntimeError("the pass failed")) for i, (job, _) in enumerate(active)}
        return step(batcher, active)

    monkeypatch.setattr(Batcher, "_step", together)
    failed, dead = disturbed(tmp_path)
    assert failed > 0 and dead == 0


def test_the_ratio_is_of_the_slowest_of_a_hundred_tokens() -> None:
    quiet = [0.01] * 99 + [0.02]
    assert Times(quiet, [0.03] * 100, 1.0).ratio == pytest.approx(3.0, rel=0.05)
    assert Times([0.01] * 100, [0.01, 4.0], 1.0).ratio > 300
