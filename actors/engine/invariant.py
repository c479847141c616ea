"""Linear layers whose rows get the same bits however many rows there are (batch invariance).

A matrix library cuts each sum by the shape of the product, so the same token next to other tokens
is rounded differently: that alone reorders candidates in 16-bit types. Two things are enough here:
weights laid out by input, which oneDNN multiplies in one way for all but the smallest products, and
padding for those. Where that ends is measured on the machine, not assumed.
"""

import logging
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

ROW_STEP = 64
"""Passes have a multiple of this many rows: the numbers that are tried."""
MAX_ROWS = 2048
"""Of one product; more rows are several."""
_MAX_FEWEST = 512

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
