from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from actors.engine.cuda import CascadeLane, GraphConfig, GraphRunner, PassInputs
from actors.engine.cuda.graphs import bucket_of
from kvstore.types import Layout
from tests.actors.engine.cuda.passes import CPU

LAYOUT = Layout(1, 1, 1, 8, "float32")
CONFIG = GraphConfig(lanes=(1, 2, 4), widths=(2, 8), parts=2, max_graphs=2)


class PlainReplay:
    """A recording without a GPU: the same call over the same buffers."""

    def __init__(self, run: Callable[[], Tensor]) -> None:
        self._run, self.output = run, run().clone()  # of inference mode, it were read-only

    def __call__(self) -> None:
        self.output.copy_(self._run())


def forward(inputs: PassInputs) -> Tensor:
    """[R, 2]: id and position of every row, or -1 in padding."""
    out = torch.full((inputs.parts.num_rows, 2), -1)
    starts = inputs.parts.starts.tolist()[: len(inputs.parts.widths)]
    for start, width in zip(starts, inputs.parts.widths.tolist(), strict=True):
        rows = slice(start, start + width)
        out[rows] = torch.stack([inputs.ids[0, rows], inputs.positions[0, rows]], 1)
    return out


def lane(*tokens: int, past: int = 0) -> CascadeLane:
    return CascadeLane(tokens, [torch.zeros(1, 2, 1, past, 8)])


def runner() -> GraphRunner:
    return GraphRunner(forward, LAYOUT, CPU, CONFIG, PlainReplay)


@pytest.mark.parametrize(
    ("n", "step"), [(1, 2), (2, 2), (3, 5), (5, 5), (6, 9), (9, 9), (10, None), (10**9, None)]
)
def test_bucket_at_every_edge(n: int, step: int | None) -> None:
    assert bucket_of(n, (2, 5, 9)) == step


def test_bucket_of_nothing() -> None:
    with pytest.raises(ValueError, match="0 things"):
        bucket_of(0, (2, 5))
    assert bucket_of(1, ()) is None


def test_a_replay_computes_what_an_eager_pass_does() -> None:
    graphs = runner()
    for lanes in ([lane(5, 6, past=3), lane(7)], [lane(1)], [lane(9, past=4)] * 2):
        hidden = graphs.run(lanes)
        for start, each in zip(hidden.starts, lanes, strict=True):
            past = each.segments[0].shape[3]
            wanted = [[token, past + i] for i, token in enumerate(each.tokens)]
            assert hidden.states[start : start + len(each.tokens)].tolist() == wanted
    assert [(s.lanes, s.width, s.rows) for s in graphs.shapes] == [(1, 2, 2), (2, 2, 4)]


@pytest.mark.parametrize(("lanes", "width"), [(1, 2), (2, 3), (4, 8), (5, 1), (1, 9), (4, 9)])
def test_what_has_no_bucket_runs_eagerly(lanes: int, width: int) -> None:
    graphs = runner()
    hidden = graphs.run([lane(*range(width))] * lanes)
    assert len(hidden.starts) == lanes
    assert hidden.states[-width if lanes > 4 else 0].tolist() == [0, 0]
    fits = lanes <= 4 and width <= 8
    assert len(graphs.shapes) == fits
    assert len(hidden.states) == (graphs.shapes[0].rows if fits else lanes * width)


def test_sinks_and_more_parts_run_eagerly() -> None:
    graphs = runner()
    sink = torch.zeros(1, 2, 1, 1, 8)
    assert graphs.shape_of([CascadeLane([1], [], [sink])]) is None
    assert graphs.shape_of([CascadeLane([1], [sink] * 3)]) is None
    assert graphs.shape_of([CascadeLane([1], [sink] * 2)]) is not None


def test_the_graph_that_was_not_used_for_longest_goes() -> None:
    graphs = runner()
    small, wide, many = [lane(1)], [lane(1, 2, 3)], [lane(1)] * 3
    for lanes in (small, wide, small, many):
        graphs.run(lanes)
    assert [(s.lanes, s.width) for s in graphs.shapes] == [(1, 2), (4, 2)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("lanes", ()), ("lanes", (2, 1)), ("widths", (0, 4)), ("widths", (4, 4))]
    + [("parts", 0), ("max_graphs", 0)],
)
def test_bad_settings_are_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name} is"):
        GraphConfig(**{name: value})  # type: ignore[arg-type]
