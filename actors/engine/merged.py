"""Attention in parts that are merged by their log-sum-exp (ALGORITHMS 1.7, cascade attention).

Any mixture of lanes, windows and soft-caps: what the prefix, each lane's stored KV and its own new
tokens give is computed kind by kind for all rows, then merged at once. A merge for every lane would
cost more than the attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from actors.engine.attention import NO_WEIGHT, How, State, merge, part
from actors.engine.lanes import Lane, num_tokens

if TYPE_CHECKING:  # it imports this module
    from actors.engine.packed import Batch


@dataclass(frozen=True, slots=True)
class MergedAttention:
    """Over the lanes of one pass."""

    batch: "Batch"

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        """q [1, H, R, dh] over all R rows, k and v [1, Hkv, R, dh] of the new tokens."""
        each = how._replace(sinks=None)  # they belong to all parts together
        states = [self._new(layer, q, k, v, each)]
        for i in range(max(len(lane.past) for lane in self.batch.lanes)):
            states.append(self._past(layer, i, q, each))
        if self.batch.shared is not None:
            states.append(self._before_all(layer, self.batch.shared, q, each))
        return merge(states, how.sinks)

    @property
    def _is_uniform(self) -> bool:
        """Several lanes, equally long, of several tokens."""
        width = len(self.batch.lanes[0].tokens)
        same = all(len(lane.tokens) == width for lane in self.batch.lanes)
        return same and width > 1 and len(self.batch.lanes) > 1

    def _new(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> State:
        """The lanes' own new tokens, causally; in one call where all lanes are equally long."""
        n, width = len(self.batch.lanes), len(self.batch.lanes[0].tokens)
        if self._is_uniform:
            q, k, v = (t.view(t.shape[1], n, width, -1).transpose(0, 1) for t in (q, k, v))
            state = part(q, k, v, how, 0, 0, causal=True)  # positions only differ by an offset
            return State(
                state.out.transpose(0, 1).flatten(1, 2)[None],
                state.lse.transpose(0, 1).flatten(1, 2)[None],
            )
        states = []
        for rows, lane in zip(self.batch.rows(), self.batch.lanes, strict=True):
            first = self.batch.position(lane)
            if _is_joined(lane):
                assert lane.joined is not None
                kv, start = lane.joined[layer, :, None], self.batch.shared_tokens
                states.append(part(q[:, :, rows], kv[0], kv[1], how, first, start, causal=False))
            else:
                new_q, new_k, new_v = q[:, :, rows], k[:, :, rows], v[:, :, rows]
                states.append(part(new_q, new_k, new_v, how, first, first, causal=True))
        return _joined(states)

    def _past(self, layer: int, i: int, q: Tensor, how: How) -> State:
        """The i-th stored part of every lane; rows of a lane without one get no weight."""
        out = torch.zeros_like(q)
        lse = q.new_full(q.shape[:3], NO_WEIGHT, dtype=torch.float32)
        for rows, lane in zip(self.batch.rows(), self.batch.lanes, strict=True):
            if _is_joined(lane) or i >= len(lane.past) or not lane.past[i].shape[3]:
                continue
            start = self.batch.shared_tokens + num_tokens(lane.past[:i])
            kv, first = lane.past[i][layer, :, None], self.batch.position(lane)
            state = part(q[:, :, rows], kv[0], kv[1], how, first, start, causal=False)
            out[:, :, rows], lse[:, :, rows] = state.out, state.lse
        return State(out, lse)

    def _before_all(self, layer: int, shared: Tensor, q: Tensor, how: How) -> State:
        kv = shared[layer, :, None]
        if how.window is None:
            return part(q, kv[0], kv[1], how, self.batch.shared_tokens, 0, causal=False)
        states = []  # the window ends at another key in every lane
        for rows, lane in zip(self.batch.rows(), self.batch.lanes, strict=True):
            first = self.batch.position(lane)
            states.append(part(q[:, :, rows], kv[0], kv[1], how, first, 0, causal=False))
        return _joined(states)


def _is_joined(lane: Lane) -> bool:
    return lane.joined is not None and len(lane.tokens) == 1


def _joined(states: Sequence[State]) -> State:
    """Of all rows, from those of each lane."""
    return State(torch.cat([s.out for s in states], 2), torch.cat([s.lse for s in states], 2))
