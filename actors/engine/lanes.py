"""One sequence of a packed pass."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


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

    @property
    def num_past(self) -> int:
        """Tokens of the lane's own stored KV."""
        return num_tokens(self.past)


def num_tokens(kvs: Sequence[Tensor]) -> int:
    """Of KVs [L, 2, Hkv, T, dh] one behind the other."""
    return sum(kv.shape[3] for kv in kvs)
