"""One pass over the rows of two batches: a weight is read once for both (Sarathi-Serve).

The rows of a batch attend to what they would attend to alone, in the same way. Products have rows
of both, and are rounded as those of one large batch.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from actors.engine.attention import How
from actors.engine.cache import RowBatch


@dataclass(slots=True)
class Together:
    """The rows of `first`, then those of `second`. Neither is invariant: they have no padding."""

    first: RowBatch
    second: RowBatch
    invariant: bool = field(default=False, init=False)

    def arrive(self, layer: int) -> bool:
        return self.first.arrive(layer) and self.second.arrive(layer)

    @property
    def num_new(self) -> int:
        return self.first.num_new + self.second.num_new

    def token_ids(self) -> list[int]:
        return self.first.token_ids() + self.second.token_ids()

    def position_ids(self) -> list[int]:
        return self.first.position_ids() + self.second.position_ids()

    def keep(self, layer: int, k: Tensor, v: Tensor) -> None:
        at = self.first.num_new
        self.first.keep(layer, k[:, :, :at], v[:, :, :at])
        self.second.keep(layer, k[:, :, at:], v[:, :, at:])

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How) -> Tensor:
        at = self.first.num_new
        first = self.first.attend(layer, q[:, :, :at], k[:, :, :at], v[:, :, :at], how)
        second = self.second.attend(layer, q[:, :, at:], k[:, :, at:], v[:, :, at:], how)
        return torch.cat([first, second.to(first.dtype)], 2)
