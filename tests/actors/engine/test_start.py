"""When a pass begins whose stored KV is still on its way."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.engine.batcher import Batcher
from actors.engine.config import GeneratorConfig, Overlap
from actors.engine.generate import GenerateEngine
from actors.engine.overlap import LayerClock
from actors.engine.runtime import Runtime
from actors.engine.start import defer, needed
from kvstore.supervised import Supervisor
from tests.actors.engine.generating import Decoding, request, started
from tests.actors.engine.test_overlap import over_disk

LAYERS = 10


@contextmanager
def loading(layer_s: float) -> Iterator[LayerClock]:
    """A clock that takes so long for each layer."""
    clock = LayerClock()

    def move() -> None:
        for layer in range(LAYERS):
            time.sleep(layer_s)
            clock.reach(layer + 1)
        clock.end(whole=True)

    thread = threading.Thread(target=move)
    thread.start()
    yield clock
    thread.join()


def busy() -> bool:
    time.sleep(0.002)
    return True


@pytest.mark.parametrize(
    ("compute_s", "whole", "least", "most"),
    [(10.0, False, 2, 4), (0.1, False, 4, 9), (0.0, False, 9, 10), (10.0, True, 10, 10)],
)
def test_it_begins_when_it_will_not_have_to_wait(
    compute_s: float, whole: bool, least: int, most: int
) -> None:
    with loading(0.02) as clock:
        defer(clock, LAYERS, compute_s, whole, busy)
        assert least <= clock.done <= most


def test_it_begins_at_once_where_nobody_else_needs_the_cores() -> None:
    with loading(0.01) as clock:
        defer(clock, LAYERS, 0.0, False, lambda: False)
        assert clock.done < 3
    with loading(0.01) as clock:
        defer(clock, LAYERS, 0.0, True, lambda: False)
        assert clock.done == LAYERS


def test_a_load_that_breaks_off_is_not_waited_for() -> None:
    clock = LayerClock()
    clock.reach(2)
    clock.end(whole=False)
    defer(clock, LAYERS, 0.0, True, busy)


@given(a=st.floats(1e-4, 1), b=st.floats(1e-4, 1), done=st.integers(2, LAYERS))
def test_the_pass_that_begins_then_waits_for_no_layer(a: float, b: float, done: int) -> None:
    layers = needed(LAYERS, done, a * (done - 1), b * LAYERS)
    begin = max(layers, 1) * a
    assert all((layer + 1) * a <= begin + layer * b + 1e-9 for layer in range(LAYERS))


@pytest.mark.parametrize("overlap", ["both", "request"])
def test_others_decode_while_a_prompt_comes_from_a_slow_disk(
    runtime: Runtime, tmp_path: Path, overlap: Overlap
) -> None:
    with over_disk(tmp_path) as (store, client):
        expected = started(GenerateEngine(runtime, GeneratorConfig(), client), 0, 1).last
        assert store.flush(10)
    with over_disk(tmp_path, "read rate 3e7") as (_, client):
        engine = GenerateEngine(runtime, GeneratorConfig(overlap=overlap), client)
        others = Decoding(step_s=0.01)
        with engine.chunks.beside(others):
            sequence = started(engine, 0, 1)
        assert sequence.last == expected and sequence.cache.ssd_hits == 3
        assert others.steps > 5
        engine.close()


def test_the_batcher_gives_the_tokens_of_others(runtime: Runtime, tmp_path: Path) -> None:
    """An answer under way goes on while the next prompt is loaded."""
    with over_disk(tmp_path) as (store, client):
        started(GenerateEngine(runtime, GeneratorConfig(), client), 0, 1)
        assert store.flush(10)
    with over_disk(tmp_path, "read rate 5e6") as (_, client):
        config = GeneratorConfig(overlap="request", stream_interval_s=0)
        batcher = Batcher(GenerateEngine(runtime, config, client), config, Supervisor())
        order: list[str] = []
        ended = [threading.Event() for _ in range(2)]

        def emit(name: str, event: threading.Event) -> Callable[[object], None]:
            def one(chunk: object) -> None:
                order.append(name)
                if getattr(chunk, "finish_reason", "error") is not None:
                    event.set()

            return one

        batcher.submit(request(), emit("first", ended[0]))
        while not order:
            time.sleep(0.005)
        batcher.submit(request(0, 1), emit("second", ended[1]))
        assert all(event.wait(60) for event in ended)
        batcher.close()
    assert order.index("second") > 3, "the first went on meanwhile"
