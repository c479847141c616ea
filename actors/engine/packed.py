"""One forward pass over many sequences whose past is stored KV."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import pad

from actors.engine.attention import KEY_STEP, How, fused, lone_row, part
from actors.engine.invariant import ROW_STEP
from actors.engine.lanes import Lane
from actors.engine.merged import MergedAttention
from actors.engine.padded import PaddedBlock, Workspace, blocks


@dataclass(slots=True)
class Batch:
    """Lanes of one pass, and the KV that stands before all of them."""

    lanes: Sequence[Lane]
    shared: Tensor | None = None
    workspace: Workspace = field(default_factory=Workspace)
    arrive: Callable[[int], bool] = lambda layer: True
    """Returns when the stored KV of a layer is in place, called before it is read; False when it
    will not be: the pass ends with LayerLostError."""
    invariant: bool = False
    """Each lane gets the same bits whatever else is in the pass, and whether its past is stored or
    new. Costs rows of padding; see `Decoder.invariant`."""
    starts: list[int] = field(init=False)
    """Row of each lane's first new token; one more entry for the end."""

    _blocks: list[PaddedBlock] = field(init=False, default_factory=list)
    _reach: int = field(init=False)
    """Tokens of the longest lane, with all that precedes it."""

    def __post_init__(self) -> None:
        self.starts = [0]
        for lane in self.lanes:
            self.starts.append(self.starts[-1] + len(lane.tokens))
        self._reach = max(self.position(lane) + len(lane.tokens) for lane in self.lanes)
        widths = [len(lane.tokens) for lane in self.lanes]
        several = self.invariant or (len(widths) > 1 and min(widths) > 1)
        if several and all(lane.past and lane.joined is None for lane in self.lanes):
            self._blocks = list(blocks(self.shared, [lane.past for lane in self.lanes], widths))

    @property
    def shared_tokens(self) -> int:
        return 0 if self.shared is None else self.shared.shape[3]

    def position(self, lane: Lane) -> int:
        """Position of the lane's first new token."""
        return self.shared_tokens + lane.num_past

    @property
    def num_rows(self) -> int:
        """Of all new tokens, and of padding: key slots behind the last lane, and whole steps."""
        rows = self.starts[-1]
        if not self.invariant:
            return rows
        if not self._blocks:
            rows += self._slots_behind(self.lanes[-1])
        return -(-rows // ROW_STEP) * ROW_STEP

    def token_ids(self) -> list[int]:
        """Of every row, 0 in padding."""
        ids = [token for lane in self.lanes for token in lane.tokens]
        return ids + [0] * (self.num_rows - len(ids))

    def position_ids(self) -> list[int]:
        """Of every row, 0 in padding."""
        ids: list[int] = []
        for lane in self.lanes:
            first = self.position(lane)
            ids.extend(range(first, first + len(lane.tokens)))
        return ids + [0] * (self.num_rows - len(ids))

    @property
    def num_new(self) -> int:
        return self.starts[-1]

    def keep(self, layer: int, k: Tensor, v: Tensor) -> None:
        """k, v [1, Hkv, R, dh] of a layer, after RoPE, into the lanes' sinks."""
        for lane, first in zip(self.lanes, self.starts, strict=False):
            at = first
            for sink in lane.sinks:
                end = at + sink.shape[3]
                sink[layer, 0] = k[0, :, at:end]
                sink[layer, 1] = v[0, :, at:end]
                at = end

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        """q [1, H, R, dh] over all R rows, k and v [1, Hkv, R, dh] of the new tokens."""
        if self._blocks and fused(q, how, self._reach):
            return self._attend_blocks(layer, q[0], k[0], v[0], how)
        if self._is_led and fused(q, how, self._reach):
            return self._attend_led(layer, q, k, v, how)
        q, k, v = (t[:, :, : self.starts[-1]] for t in (q, k, v))
        merged = MergedAttention(self)
        return torch.cat([merged.attend(layer, q, k, v, how), self._padding(q)], 2)

    @property
    def _is_led(self) -> bool:
        """Little precedes each lane: passages behind the prompt prefix."""
        if any(lane.joined is not None for lane in self.lanes):
            return False
        return self.invariant or all(
            0 < self.position(lane) <= len(lane.tokens) for lane in self.lanes
        )

    def _attend_led(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        """One causal call a lane, over what precedes it and itself. Merged parts would be rounded
        twice: this is what a pass without stored KV computes, in bf16 too. Rows of zeros stand
        before the queries, one for each key before them, because the kernel aligns the first query
        with the first key. Rows behind the lane's own round the keys up; none of them is seen."""
        shared = [] if self.shared is None else [self.shared]
        outs = []
        for rows, lane in zip(self.rows(), self.lanes, strict=True):
            lead, width = self.position(lane), len(lane.tokens)
            own = slice(rows.start, rows.stop + self._slots_behind(lane))
            keys, values = k[:, :, own], v[:, :, own]
            queries = q[:, :, rows]
            if lead:
                stored = [kv[layer] for kv in (*shared, *lane.past)]
                keys = torch.cat([*(kv[0] for kv in stored), keys[0]], 1)[None]
                values = torch.cat([*(kv[1] for kv in stored), values[0]], 1)[None]
            if lead or lone_row(width):
                queries = pad(queries, (0, 0, lead, lone_row(lead + width)))
            out = part(queries, keys, values, how, 0, 0, causal=True).out
            outs.append(out[:, :, lead : lead + width])
        outs.append(self._padding(q))
        return torch.cat(outs, 2)

    def _slots_behind(self, lane: Lane) -> int:
        """Key slots that round a lane up."""
        return -(self.position(lane) + len(lane.tokens)) % KEY_STEP

    def _padding(self, q: Tensor) -> Tensor:
        """What the rows behind the last lane attend to: nothing."""
        return q.new_zeros(1, q.shape[1], self.num_rows - self.starts[-1], q.shape[3])

    def _attend_blocks(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        outs, at = [], 0
        for block in self._blocks:
            rows = slice(at, at + block.num_rows)
            at = rows.stop
            part = (q[:, rows], k[:, rows], v[:, rows])
            outs.append(block.attend(layer, *part, how, self.workspace))
        return torch.cat([*outs, self._padding(q[None])[0]], 1)[None]

    def rows(self) -> list[slice]:
        """Of each lane's new tokens."""
        return [slice(a, b) for a, b in pairwise(self.starts)]
