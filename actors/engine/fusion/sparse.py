"""One pass over some tokens of a sequence whose other tokens are there already (ALGORITHMS 5.3 C).

Rows are causal by position: a token attends to every slot up to its own, recomputed or not. Rows
are taken in blocks; a block reads the keys up to its last position and no others. On a GPU a kernel
does that; on a CPU PyTorch's fused attention, under a mask.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from actors.engine.attention import How, attend_at, fused, merge, part_masked
from actors.engine.cuda.sparse import sparse_attention

BLOCK_ROWS = 256


@dataclass(slots=True)
class SparseBatch:
    """Tokens at positions of a buffer, ascending; their KV is written to it in place."""

    tokens: Sequence[int]
    positions: Sequence[int]
    kv: Tensor
    """[L, 2, Hkv, capacity, dh]; a slot is a position. All up to the last of `positions` are there,
    or among them."""
    arrive: Callable[[int], bool] = lambda layer: True
    invariant: bool = False
    _slots: Tensor = field(init=False)
    _masks: dict[int, Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._slots = torch.tensor(self.positions, device=self.kv.device)

    @property
    def num_new(self) -> int:
        return len(self.tokens)

    def token_ids(self) -> list[int]:
        return list(self.tokens)

    def position_ids(self) -> list[int]:
        return list(self.positions)

    def keep(self, layer: int, k: Tensor, v: Tensor) -> None:
        """k, v [1, Hkv, R, dh] of a layer, after RoPE."""
        self.kv[layer, 0].index_copy_(1, self._slots, k[0])
        self.kv[layer, 1].index_copy_(1, self._slots, v[0])

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        """q [1, H, R, dh]; what it attends to was kept before."""
        if q.device.type == "cuda":
            keys, values = self.kv[layer]
            return sparse_attention(q[0], keys, values, self._slots, how)[None]
        outs = []
        for first in range(0, q.shape[2], BLOCK_ROWS):
            rows = q[:, :, first : first + BLOCK_ROWS]
            slots = self._slots[first : first + BLOCK_ROWS]
            end = self.positions[first + rows.shape[2] - 1] + 1
            keys, values = self.kv[layer, :, None, :, :end]
            if fused(q, how, reach=end):
                mask = self._mask(first, slots, end)
                outs.append(part_masked(rows, keys, values, mask, how.scaling))
            else:
                seen = torch.arange(end, device=q.device)
                state = attend_at(rows, keys, values, how, slots, seen)
                outs.append(merge([state], how.sinks))
        return torch.cat(outs, 2)

    def _mask(self, first: int, slots: Tensor, end: int) -> Tensor:
        """[1, 1, rows, end], the same in every layer: 0 where a row sees a slot, else -inf."""
        if first not in self._masks:
            later = torch.arange(end) > slots[:, None]
            mask = torch.zeros(later.shape, dtype=self.kv.dtype).masked_fill_(later, -torch.inf)
            self._masks[first] = mask[None, None]
        return self._masks[first]
