"""Linear layers whose rows get the same bits however many rows there are (batch invariance).

A matrix library cuts each sum by the shape of the product, so the same token next to other tokens
is rounded differently: that alone reorders candidates in 16-bit types. Two things are enough here:
weights laid out by input, which oneDNN multiplies in one way for all but the smallest products, and
padding for those. The fused attention kernel needs its queries and keys padded likewise. Whether
and from where on that is enough is measured on the machine, not assumed.
"""

import logging
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from actors.engine.attention import KEY_STEP, How, lone_row, part, part_masked

ROW_STEP = 64
"""Passes have a multiple of this many rows: the numbers that are tried."""
MAX_ROWS = 2048
"""Of one product; more rows are several."""
_MAX_FEWEST = 512
_PROBED_KEYS = 448
_PROBED = ((60, 24), (187, 2), (300, 33), (347, 1), (440, 23))
"""Keys, and how many queries at their end."""

log = logging.getLogger(__name__)


class InvariantLinear(torch.nn.Module):
    """The linear layer it is made of, invariant while `products.wanted` says so."""

    def __init__(self, layer: torch.nn.Linear, products: "InvariantProducts", fewest: int) -> None:
        super().__init__()
        self.weight, self.bias = by_input(layer.weight), layer.bias
        self._products, self._fewest = products, fewest

    def forward(self, x: Tensor) -> Tensor:
        """x [..., d_in]; the result is [..., d_out]."""
        if not self._products.wanted:
            return linear(x, self.weight, self.bias)
        rows = x.reshape(-1, x.shape[-1])
        parts = [rows[at : at + MAX_ROWS] for at in range(0, len(rows), MAX_ROWS)]
        outs = [self._product(part) for part in parts]
        return (outs[0] if len(outs) == 1 else torch.cat(outs)).view(*x.shape[:-1], -1)

    def _product(self, rows: Tensor) -> Tensor:
        missing = max(0, self._fewest - len(rows))
        padded = pad(rows, (0, 0, 0, missing)) if missing else rows
        return linear(padded, self.weight, self.bias)[: len(rows)]


class InvariantProducts:
    """The linear layers of one model. For one thread."""

    def __init__(self) -> None:
        self.wanted = False
        """Whether the pass that is about to run is to be invariant: its rows are whole steps."""

    @classmethod
    @torch.inference_mode()
    def of(cls, model: Any) -> Self | None:
        """Replace the linear layers of `model`; None, and nothing replaced, where one of them has
        no number of rows from which on its bits stay the same."""
        products = cls()
        layers = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear)
        }
        fewest: dict[torch.Size, int] = {}
        for name, layer in layers.items():
            shape = layer.weight.shape
            if shape not in fewest:
                found = fewest_rows(layer)
                if found is None:
                    log.warning("%s %s is not batch-invariant here: reuse rounds", name, [*shape])
                    return None
                fewest[shape] = found
        for name, layer in layers.items():
            parent = model.get_submodule(name.rpartition(".")[0])
            made = InvariantLinear(layer, products, fewest[layer.weight.shape])
            setattr(parent, name.rpartition(".")[2], made)
        return products


def fewest_rows(layer: torch.nn.Linear) -> int | None:
    """The least multiple of ROW_STEP from which on, up to MAX_ROWS, a product of as many rows has
    the bits of one of MAX_ROWS; None where that is more than 512."""
    x, weight = _cancelling(layer.weight)
    expected = linear(x, weight)
    fewest = MAX_ROWS
    for size in range(MAX_ROWS - ROW_STEP, 0, -ROW_STEP):
        if not torch.equal(linear(x[:size], weight), expected[:size]):
            break
        fewest = size
    return fewest if fewest <= _MAX_FEWEST else None


@torch.inference_mode()
def attention_is_invariant(
    num_heads: int, num_kv_heads: int, head_dim: int, dtype: torch.dtype
) -> bool:
    """Whether queries get the bits that they have in a longer pass: in a shorter one, and as the
    last few behind stored KV. Kernels differ in how they take what is left of a block, and show it
    in values that nearly cancel."""
    seeded = torch.Generator().manual_seed(0)
    shapes = [(1, heads, _PROBED_KEYS, head_dim) for heads in (num_heads, num_kv_heads)]
    q, k, v = (3 * torch.randn(shapes[i], generator=seeded) for i in (0, 1, 1))
    half = head_dim // 2
    q[..., half : 2 * half] = q[..., :half]
    k[..., half : 2 * half] = -k[..., :half] * (1 + 2**-7 * k[..., half : 2 * half])
    q, k, v = (t.to(dtype) for t in (q, k, v))
    expected = _alone(q, k, v)
    for keys, queries in _PROBED:
        own_q, own_k, own_v = (t[:, :, :keys] for t in (q, k, v))
        rows = expected[:, :, :keys]
        if not torch.equal(_alone(own_q, own_k, own_v), rows):
            return False
        if not torch.equal(_behind(own_q, own_k, own_v, queries), rows[:, :, -queries:]):
            return False
    return True


def _alone(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As `Batch` attends within a lane that has nothing before it."""
    num = q.shape[2]
    k, v = (pad(t, (0, 0, 0, -num % KEY_STEP)) for t in (k, v))
    how = How(q.shape[3] ** -0.5, None, None)
    return part(pad(q, (0, 0, 0, lone_row(num))), k, v, how, 0, 0, causal=True).out[:, :, :num]


def _behind(q: Tensor, k: Tensor, v: Tensor, num: int) -> Tensor:
    """As `PaddedBlock` attends: the last `num` queries over all keys, under a mask."""
    keys = k.shape[2]
    k, v = (pad(t, (0, 0, 0, -keys % KEY_STEP)) for t in (k, v))
    queries = pad(q[:, :, -num:], (0, 0, 0, lone_row(num)))
    last = keys - num + torch.arange(queries.shape[2])[:, None]
    hidden = torch.arange(k.shape[2]) > last
    mask = torch.zeros(hidden.shape, dtype=q.dtype).masked_fill_(hidden, -torch.inf)
    return part_masked(queries, k, v, mask[None, None], q.shape[3] ** -0.5)[:, :, :num]


def _cancelling(like: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [MAX_ROWS, d_in] and a weight [d_out, d_in] whose products nearly cancel, so that the
    order of a sum shows in one result of thirty and not of ten thousand."""
    seeded = torch.Generator().manual_seed(0)
    d_out, d_in = like.shape
    half = d_in // 2
    x = torch.randn(MAX_ROWS, d_in, generator=seeded)
    weight = torch.randn(d_out, d_in, generator=seeded)
    x[:, half : 2 * half] = x[:, :half] * (1 + 2**-7 * x[:, half : 2 * half])
    weight[:, half : 2 * half] = -weight[:, :half]
    return x.to(like.dtype), by_input(weight.to(like.dtype))


def by_input(weight: Tensor) -> Tensor:
    """The same matrix [d_out, d_in], with the weights of one input next to each other."""
    return torch.nn.Parameter(weight.t().contiguous().t(), requires_grad=False)
