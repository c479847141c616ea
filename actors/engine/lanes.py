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

    def part(self, start: int, end: int) -> "Lane":
        """The new tokens [start, end), when the KV of those before them is in the sinks."""
        if (start, end) == (0, len(self.tokens)):
            return self
        past = [*self.past, *_between(self.sinks, 0, start)]
        return Lane(self.tokens[start:end], past, _between(self.sinks, start, end))


def behind(kv: Tensor, first: int, tokens: Sequence[int]) -> Lane:
    """These tokens at position `first` of a buffer [L, 2, Hkv, capacity, dh], into their places."""
    end = first + len(tokens)
    return Lane(tokens, [kv[:, :, :, :first]], (kv[:, :, :, first:end],))


def cut(lanes: Sequence[Lane], start: int, end: int) -> list[Lane]:
    """The rows [start, end) of a pass over lanes, when those before them are computed."""
    found, at = [], 0
    for lane in lanes:
        size = len(lane.tokens)
        first, last = max(start - at, 0), min(end - at, size)
        if first < last:
            found.append(lane.part(first, last))
        at += size
    return found


def _between(kvs: Sequence[Tensor], start: int, end: int) -> list[Tensor]:
    """The tokens [start, end) of KVs one behind the other."""
    found, at = [], 0
    for kv in kvs:
        size = kv.shape[3]
        first, last = max(start - at, 0), min(end - at, size)
        if first < last:
            found.append(kv[:, :, :, first:last])
        at += size
    return found


def num_tokens(kvs: Sequence[Tensor]) -> int:
    """Of KVs [L, 2, Hkv, T, dh] one behind the other."""
    return sum(kv.shape[3] for kv in kvs)
