"""One forward pass over many sequences whose past is stored KV."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import Cache

from actors.engine.attention import KEY_STEP, NO_WEIGHT, How, State, fused, lone_row, merge, part
from actors.engine.invariant import ROW_STEP
from actors.engine.padded import PaddedBlock, Workspace, blocks, num_tokens


class LayerLostError(Exception):
    """Stored KV was promised and did not come: compute without it."""


@dataclass(slots=True)
class Lane:
    """One sequence of a pass. KV is [L, 2, Hkv, T, dh], after RoPE, in order of position."""

    tokens: Sequence[int]
    """New tokens: the rows that are computed."""
    past: Sequence[Tensor] = ()
    """KV of all that precedes them, after what the batch shares; read in place, never written."""
    sinks: Sequence[Tensor] = ()
    """Receive the KV of the new tokens, one behind the other; none, or room for all of them."""
    joined: Tensor | None = None
    """KV of past and new tokens in one buffer that the sink is the end of: one part, not two, when
    a single token is new."""


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
    def _is_uniform(self) -> bool:
        """Several lanes, equally long, of several tokens."""
        width = len(self.lanes[0].tokens)
        same = all(len(lane.tokens) == width for lane in self.lanes)
        return same and width > 1 and len(self.lanes) > 1

    @property
    def shared_tokens(self) -> int:
        return 0 if self.shared is None else self.shared.shape[3]

    def position(self, lane: Lane) -> int:
        """Position of the lane's first new token."""
        return self.shared_tokens + num_tokens(lane.past)

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

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        """q [1, H, R, dh] over all R rows, k and v [1, Hkv, R, dh] of the new tokens.

        Each kind of part is computed for all rows, then all kinds are merged at once: a merge for
        every lane would cost more than the attention.
        """
        if self._blocks and fused(q, how, self._reach):
            return self._attend_blocks(layer, q[0], k[0], v[0], how)
        if self._is_led and fused(q, how, self._reach):
            return self._attend_led(layer, q, k, v, how)
        q, k, v = (t[:, :, : self.starts[-1]] for t in (q, k, v))
        states = [self._new_state(layer, q, k, v, how)]
        for i in range(max(len(lane.past) for lane in self.lanes)):
            states.append(self._past_state(layer, i, q, how))
        if self.shared is not None:
            states.append(self._shared_state(layer, q, how))
        return torch.cat([merge(states), self._padding(q)], 2)

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
        for rows, lane in zip(self._rows(), self.lanes, strict=True):
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

    def _new_state(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> State:
        """The lanes' own new tokens, causally; in one call where all lanes are equally long."""
        n, width = len(self.lanes), len(self.lanes[0].tokens)
        if self._is_uniform:
            q, k, v = (t.view(t.shape[1], n, width, -1).transpose(0, 1) for t in (q, k, v))
            state = part(q, k, v, how, 0, 0, causal=True)  # positions only differ by an offset
            return State(
                state.out.transpose(0, 1).flatten(1, 2)[None],
                state.lse.transpose(0, 1).flatten(1, 2)[None],
            )
        states = []
        for rows, lane in zip(self._rows(), self.lanes, strict=True):
            first = self.position(lane)
            if lane.joined is not None and len(lane.tokens) == 1:
                kv = lane.joined[layer, :, None]
                start = self.shared_tokens
                states.append(part(q[:, :, rows], kv[0], kv[1], how, first, start, causal=False))
            else:
                new_q, new_k, new_v = q[:, :, rows], k[:, :, rows], v[:, :, rows]
                states.append(part(new_q, new_k, new_v, how, first, first, causal=True))
        return State(torch.cat([s.out for s in states], 2), torch.cat([s.lse for s in states], 2))

    def _past_state(self, layer: int, i: int, q: Tensor, how: How) -> State:
        """The i-th stored part of every lane; rows of a lane without one get no weight."""
        out = torch.zeros_like(q)
        lse = q.new_full(q.shape[:3], NO_WEIGHT, dtype=torch.float32)
        for rows, lane in zip(self._rows(), self.lanes, strict=True):
            whole = lane.joined is not None and len(lane.tokens) == 1
            if whole or i >= len(lane.past) or not lane.past[i].shape[3]:
                continue
            start = self.shared_tokens + sum(kv.shape[3] for kv in lane.past[:i])
            kv = lane.past[i][layer, :, None]
            first = self.position(lane)
            state = part(q[:, :, rows], kv[0], kv[1], how, first, start, causal=False)
            out[:, :, rows], lse[:, :, rows] = state.out, state.lse
        return State(out, lse)

    def _shared_state(self, layer: int, q: Tensor, how: How) -> State:
        assert self.shared is not None
        kv = self.shared[layer, :, None]
        if how.window is None:
            return part(q, kv[0], kv[1], how, self.shared_tokens, 0, causal=False)
        states = []  # the window ends at another key in every lane
        for rows, lane in zip(self._rows(), self.lanes, strict=True):
            first = self.position(lane)
            states.append(part(q[:, :, rows], kv[0], kv[1], how, first, 0, causal=False))
        return State(torch.cat([s.out for s in states], 2), torch.cat([s.lse for s in states], 2))

    def _rows(self) -> list[slice]:
        return [slice(a, b) for a, b in pairwise(self.starts)]


class PackedCache(Cache):  # type: ignore[misc]  # transformers is untyped here
    """Takes the new keys and values of each layer, and hands the batch to our attention function.

    transformers' own caches concatenate: they would copy every stored byte once a layer.
    """

    def __init__(self, batch: Batch) -> None:
        super().__init__(layers=[])
        self._batch = batch

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Any, Tensor]:
        """key_states, value_states [1, Hkv, R, dh], after RoPE."""
        batch = self._batch
        if not batch.arrive(layer_idx):
            raise LayerLostError(f"layer {layer_idx} of stored KV did not arrive")
        for lane, first in zip(batch.lanes, batch.starts, strict=False):
            at = first
            for sink in lane.sinks:
                end = at + sink.shape[3]
                sink[layer_idx, 0] = key_states[0, :, at:end]
                sink[layer_idx, 1] = value_states[0, :, at:end]
                at = end
        return (batch, key_states), value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0
