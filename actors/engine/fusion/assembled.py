"""A prompt's passages, each with the KV it has alone, laid out in one buffer."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

from torch import Tensor

from actors.engine.plain_text import Tokens


@dataclass(frozen=True, slots=True)
class Assembled:
    """Prompt prefix, history and passages; what no selection has repaired yet."""

    kv: Tensor
    """[L, 2, Hkv, capacity, dh]; a slot is a position."""
    prefix: Tokens
    passages: tuple[Tokens, ...]
    history: Tokens = ()
    """Exact, between the prefix and the first passage."""

    @property
    def tokens(self) -> Tokens:
        return tuple(token for piece in self._pieces for token in piece)

    @property
    def _pieces(self) -> tuple[Tokens, ...]:
        return self.prefix, self.history, *self.passages

    @property
    def first(self) -> int:
        """Position of the first passage."""
        return len(self.prefix) + len(self.history)

    @property
    def end(self) -> int:
        """Position behind the last passage."""
        return self.first + self.num_passage_tokens

    @property
    def num_passage_tokens(self) -> int:
        return sum(map(len, self.passages))

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Positions [start, end) of every passage."""
        ends = accumulate(map(len, self.passages), initial=self.first)
        return list(pairwise(ends))

    @property
    def stale(self) -> list[tuple[int, int]]:
        """Those of the passages that follow history or another one: their KV never saw it."""
        return self.spans if self.history else self.spans[1:]
