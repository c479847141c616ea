"""One forward pass over many sequences whose past is stored KV."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from actors.engine.attention import How, State, merge, part


@dataclass(slots=True)
class Lane:
    """One sequence of a pass. KV is [L, 2, Hkv, T, dh], after RoPE, in order of position."""

    tokens: Sequence[int]
    """New tokens: the rows that are computed."""
    past: Sequence[Tensor] = ()
    """KV of all that precedes them, after what the batch shares; read in place, never written."""
    sink: Tensor | None = None
    """Receives the KV of the new tokens."""
    joined: Tensor | None = None
    """KV of past and new tokens in one buffer that `sink` is the end of: one part, not two, when
    a single token is new."""


@dataclass(slots=True)
class Batch:
    """Lanes of one pass, and the KV that stands before all of them."""

    lanes: Sequence[Lane]
    shared: Tensor | None = None
    starts: list[int] = field(init=False)
    """Row of each lane's first new token; one more entry for the end."""

    def __post_init__(self) -> None:
        self.starts = [0]
        for lane in self.lanes:
            self.starts.append(self.starts[-1] + len(lane.tokens))

    @property
    def shared_tokens(self) -> int:
        return 0 if self.shared is None else self.shared.shape[3]

    def position(self, lane: Lane) -> int:
        """Position of the lane's first new token."""
        return self.shared_tokens + sum(kv.shape[3] for kv in lane.past)

    def token_ids(self) -> list[int]:
        return [token for lane in self.lanes for token in lane.tokens]

    def position_ids(self) -> list[int]:
        ids: list[int] = []
        for lane in self.lanes:
            first = self.position(lane)
            ids.extend(range(first, first + len(lane.tokens)))
        return ids

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        """q [1, H, R, dh] over all R rows, k and v [1, Hkv, R, dh] of the new tokens."""
        own = torch.empty_like(q)
        lse = q.new_empty(q.shape[:3], dtype=torch.float32)
        uniform = self._uniform_states(q, k, v, how)
        for n, lane in enumerate(self.lanes):
            rows = slice(self.starts[n], self.starts[n + 1])
            first = self.position(lane)
            states = self._past_states(layer, lane, q[:, :, rows], how, first)
            if lane.joined is None or len(lane.tokens) > 1:
                states.append(
                    uniform[n]
                    if uniform is not None
                    else part(
                        q[:, :, rows], k[:, :, rows], v[:, :, rows], how, first, first, causal=True
                    )
                )
            own[:, :, rows] = merge(states).to(q.dtype)
            if self.shared is not None:
                lse[:, :, rows] = torch.stack([s.lse for s in states]).logsumexp(0)
        if self.shared is None:
            return own
        return merge([State(own, lse), self._shared_state(layer, q, how)])

    def _uniform_states(self, q: Tensor, k: Tensor, v: Tensor, how: How) -> list[State] | None:
        """The causal part of all lanes in one call, where lanes are equally long."""
        n, width = len(self.lanes), len(self.lanes[0].tokens)
        if width < 2 or n < 2 or any(len(lane.tokens) != width for lane in self.lanes):
            return None
        q, k, v = (t.view(t.shape[1], n, width, -1).transpose(0, 1) for t in (q, k, v))
        state = part(q, k, v, how, 0, 0, causal=True)
        return [State(state.out[i : i + 1], state.lse[i : i + 1]) for i in range(n)]

    def _past_states(self, layer: int, lane: Lane, q: Tensor, how: How, first: int) -> list[State]:
        if lane.joined is not None and len(lane.tokens) == 1:
            kv = lane.joined[layer, :, None]
            return [part(q, kv[0], kv[1], how, first, self.shared_tokens, causal=False)]
        states, position = [], self.shared_tokens
        for stored in lane.past:
            if stored.shape[3]:
                kv = stored[layer, :, None]
                states.append(part(q, kv[0], kv[1], how, first, position, causal=False))
            position += stored.shape[3]
        return states

    def _shared_state(self, layer: int, q: Tensor, how: How) -> State:
        assert self.shared is not None
        kv = self.shared[layer, :, None]
        if how.window is None:
            return part(q, kv[0], kv[1], how, self.shared_tokens, 0, causal=False)
        states = []  # the window ends at another key in every lane
        for n, lane in enumerate(self.lanes):
            rows = q[:, :, self.starts[n] : self.starts[n + 1]]
            states.append(part(rows, kv[0], kv[1], how, self.position(lane), 0, causal=False))
        return State(torch.cat([s.out for s in states], 2), torch.cat([s.lse for s in states], 2))


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
        for n, lane in enumerate(batch.lanes):
            if lane.sink is not None:
                rows = slice(batch.starts[n], batch.starts[n + 1])
                lane.sink[layer_idx, 0] = key_states[0, :, rows]
                lane.sink[layer_idx, 1] = value_states[0, :, rows]
        return (batch, key_states), value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0
