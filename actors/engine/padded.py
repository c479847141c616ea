"""Attention of equally long suffixes over passages of similar length, in one fused call.

The static layout of reranking (HyperRAG, arXiv 2504.02921; ALGORITHMS 1.2): prefix, stored parts
and new tokens of all lanes go straight into their places of one buffer, right-padded and masked. A
key's slot is its position, so that a padded lane is summed in the order of one computed in full.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import pad

from actors.engine.attention import KEY_STEP, How, lone_row, part_masked
from actors.engine.lanes import num_tokens

_MIN_FILL = 0.8
"""A block takes another lane while this share of its slots holds keys: below, padding costs more
than another call."""


class Workspace:
    """The memory of padded blocks, reused by every layer of every pass of one engine thread.

    It grows to the largest block, which `reranker.batch_tokens` bounds. Padding holds keys of
    earlier passes, finite and masked; `clear` after a pass that computed something else.
    """

    def __init__(self) -> None:
        self._buffer = torch.empty(0)

    def take(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """A view of this shape, with the type and device of `like`; its content is arbitrary."""
        size = torch.Size(shape).numel()
        fits = self._buffer.dtype == like.dtype and self._buffer.device == like.device
        if not fits or self._buffer.numel() < size:
            rounded = 1 << (size - 1).bit_length()
            self._buffer = torch.zeros(rounded, dtype=like.dtype, device=like.device)
        return self._buffer[:size].view(*shape)

    def clear(self) -> None:
        self._buffer = torch.empty(0)


class PaddedBlock:
    """Neighbouring lanes of one pass, with as many new tokens each."""

    def __init__(self, shared: Tensor | None, past: Sequence[Sequence[Tensor]], width: int) -> None:
        """`past[n]` are the stored KVs [L, 2, Hkv, T, dh] of lane n, `width` its new tokens."""
        self._shared, self._past, self._width = shared, past, width
        self._lead = 0 if shared is None else shared.shape[3]
        self._lengths = [num_tokens(kvs) for kvs in past]
        used = self._lead + max(self._lengths) + width
        self._slots = -(-used // KEY_STEP) * KEY_STEP
        self._mask: Tensor | None = None

    @property
    def num_rows(self) -> int:
        return len(self._past) * self._width

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, how: How, workspace: Workspace
    ) -> Tensor:
        """q [H, N*width, dh], k and v [Hkv, N*width, dh]; the result has the shape of q."""
        n, width = len(self._past), self._width
        shape = (2, n, k.shape[0], self._slots, q.shape[2])
        keys, values = self._filled(workspace.take(shape, q), layer, k, v)
        if self._mask is None:
            self._mask = self._masked(q)
        queries = q.view(q.shape[0], n, width, -1).transpose(0, 1)
        if lone_row(width):
            queries = pad(queries, (0, 0, 0, 1))
        out = part_masked(queries, keys, values, self._mask, how.scaling)[:, :, :width]
        return out.transpose(1, 2).flatten(0, 1).transpose(0, 1)

    def _filled(self, buffer: Tensor, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [N, Hkv, slots, dh]: prefix, stored parts, new tokens, padding."""
        lead, width = self._lead, self._width
        new = [t.view(len(t), -1, width, t.shape[2]).transpose(0, 1) for t in (k, v)]
        if self._shared is not None:
            buffer[:, :, :, :lead] = self._shared[layer][:, None]
        for lane, kvs in enumerate(self._past):
            at = lead
            for kv in kvs:
                end = at + kv.shape[3]
                buffer[:, lane, :, at:end] = kv[layer]
                at = end
            buffer[0, lane, :, at : at + width] = new[0][lane]
            buffer[1, lane, :, at : at + width] = new[1][lane]
        return buffer[0], buffer[1]

    def _masked(self, q: Tensor) -> Tensor:
        """Additive mask [N, 1, queries, slots]: up to each query itself."""
        stored = self._lead + torch.tensor(self._lengths)[:, None, None]
        slots = torch.arange(self._slots)[None, None, :]
        steps = torch.arange(self._width + lone_row(self._width))[None, :, None]
        seen = slots <= stored + steps
        return torch.zeros(seen.shape, dtype=q.dtype).masked_fill_(~seen, -torch.inf)[:, None]


def blocks(
    shared: Tensor | None, past: Sequence[Sequence[Tensor]], widths: Sequence[int]
) -> Iterator[PaddedBlock]:
    """Cut lanes, in their order, into blocks of one width that padding hardly lengthens."""
    cuts = [0]
    longest = stored = 0
    for n, (kvs, width) in enumerate(zip(past, widths, strict=True)):
        length = num_tokens(kvs)
        longest, stored = max(longest, length), stored + length
        sparse = stored < _MIN_FILL * longest * (n + 1 - cuts[-1])
        if n > cuts[-1] and (width != widths[n - 1] or sparse):
            cuts.append(n)
            longest = stored = length
    for start, end in pairwise([*cuts, len(past)]):
        yield PaddedBlock(shared, past[start:end], widths[start])
