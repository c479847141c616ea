"""CUDA graphs of the reranker's pass, one for each bucket of candidates and question length.

A pass of few rows is bound by launches: some 25 kernels a layer, each with its Python. A graph
replays them in one call, for shapes that are fixed; so passes are padded up to a bucket.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from actors.engine.cuda.inputs import CascadeLane, PassInputs
from actors.engine.cuda.parts import PassShape
from kvstore.types import Layout

_WARM_UPS = 2
"""Passes before a capture: kernels are compiled and libraries take their workspaces in these."""


@dataclass(frozen=True, slots=True)
class GraphConfig:
    """Which shapes are captured. A longer pass runs eagerly."""

    lanes: tuple[int, ...] = (1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 100, 128)
    """Buckets of candidates, ascending."""
    widths: tuple[int, ...] = (8, 16, 24, 32, 48, 64)
    """Buckets of new tokens a candidate, ascending."""
    parts: int = 3
    """Stored parts a candidate, at most: prefix, passage, suffix."""
    max_graphs: int = 16
    """The one that was not used for longest goes first."""

    def __post_init__(self) -> None:
        for name, ladder in (("lanes", self.lanes), ("widths", self.widths)):
            if not ladder or ladder[0] < 1 or list(ladder) != sorted(set(ladder)):
                raise ValueError(f"{name} is {list(ladder)}, must ascend from 1 or more")
        for name, number in (("parts", self.parts), ("max_graphs", self.max_graphs)):
            if number < 1:
                raise ValueError(f"{name} is {number}, must be 1 or more")


def bucket_of(n: int, ladder: Sequence[int]) -> int | None:
    """The smallest step of an ascending ladder that holds n; None past its end."""
    if n < 1:
        raise ValueError(f"{n} things need no bucket, at least 1 is wanted")
    step = bisect_left(ladder, n)
    return ladder[step] if step < len(ladder) else None


class Replay(Protocol):
    """A recorded pass over fixed buffers."""

    output: Tensor

    def __call__(self) -> None:
        """Compute `output` anew from what the buffers hold."""


Record = Callable[[Callable[[], Tensor]], Replay]


class CudaRecord:
    """Captures passes into graphs that share one pool of memory: they run one after another."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], Tensor]) -> Replay:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = run()
        return _GraphReplay(graph, output)


@dataclass(slots=True)
class _GraphReplay:
    graph: torch.cuda.CUDAGraph
    output: Tensor

    def __call__(self) -> None:
        self.graph.replay()


@dataclass(frozen=True, slots=True)
class Hidden:
    """Last hidden states of a pass."""

    states: Tensor
    """[R, d], padding included. Of a graph: read on the same stream before the next `run`, which
    may overwrite it, as all graphs share their memory."""
    starts: list[int]
    """Row of each lane's first new token; its others follow."""


class GraphRunner:
    """Runs passes from graphs where there is a bucket for them, else eagerly. For one thread, and
    for lanes whose KV is on the device: a graph has no place to wait for a layer."""

    def __init__(
        self,
        forward: Callable[[PassInputs], Tensor],
        layout: Layout,
        device: torch.device,
        config: GraphConfig | None = None,
        record: Record | None = None,
    ) -> None:
        """`forward` reads nothing but its inputs. `record` is a `CudaRecord` unless given."""
        self._forward, self._layout, self._device = forward, layout, device
        self._config = config or GraphConfig()
        self._record = record or CudaRecord()
        self._graphs: OrderedDict[PassShape, tuple[PassInputs, Replay]] = OrderedDict()

    @property
    def shapes(self) -> list[PassShape]:
        """Those with a graph, the longest unused first."""
        return list(self._graphs)

    def shape_of(self, lanes: Sequence[CascadeLane]) -> PassShape | None:
        """The bucket of a pass; None where it runs eagerly."""
        config = self._config
        num_lanes = bucket_of(len(lanes), config.lanes)
        width = bucket_of(max(len(lane.tokens) for lane in lanes), config.widths)
        bare = not any(lane.sinks for lane in lanes)
        few = max(len(lane.segments) for lane in lanes) <= config.parts
        if num_lanes is None or width is None or not bare or not few:
            return None
        return PassShape(num_lanes, config.parts, width, num_lanes * width)

    def run(self, lanes: Sequence[CascadeLane]) -> Hidden:
        """At least one lane. Raises ValueError for lanes that the kernel cannot read in place."""
        shape = self.shape_of(lanes)
        if shape is None:
            inputs = PassInputs.packed(lanes, self._layout, self._device)
            return Hidden(self._forward(inputs), inputs.starts)
        if shape not in self._graphs:
            self._capture(shape)
        self._graphs.move_to_end(shape)
        inputs, replay = self._graphs[shape]
        inputs.fill(lanes)
        replay()
        return Hidden(replay.output, inputs.starts)

    def _capture(self, shape: PassShape) -> None:
        while len(self._graphs) >= self._config.max_graphs:
            self._graphs.popitem(last=False)
        inputs = PassInputs(shape, self._layout, self._device)
        inputs.fill([])  # valid for every kernel: all rows are padding
        self._graphs[shape] = inputs, self._record(lambda: self._forward(inputs))
