"""Random passes: lanes over stored parts, on any device."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from actors.engine.cuda import CascadeParts, cascade_parts
from actors.engine.models import TORCH_DTYPES
from kvstore.types import Dtype, Layout

CPU = torch.device("cpu")
NUM_LAYERS = 2
TOLERANCE: dict[Dtype, float] = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}


@dataclass(frozen=True, slots=True)
class Pass:
    q: Tensor
    k: Tensor
    v: Tensor
    parts: CascadeParts

    @property
    def qkv(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.q, self.k, self.v


def random_pass(
    lengths: Sequence[Sequence[int]],
    widths: Sequence[int],
    kv_heads: int = 2,
    groups: int = 2,
    head_dim: int = 16,
    dtype: Dtype = "float32",
    seed: int = 0,
    device: torch.device = CPU,
) -> Pass:
    """Lane n has `widths[n]` new tokens behind parts of `lengths[n]` tokens; the first part is
    the same for all lanes where it is as long. Rows and heads are strided as transformers' are."""
    torch.manual_seed(seed)
    layout = Layout(NUM_LAYERS, kv_heads, 1, head_dim, dtype)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape).to(TORCH_DTYPES[dtype]).to(device)

    def segment(tokens: int) -> Tensor:
        return random(NUM_LAYERS, 2, kv_heads, tokens, head_dim)

    first = {lane[0]: segment(lane[0]) for lane in lengths if lane}
    segments = [
        [first[tokens] if i == 0 else segment(tokens) for i, tokens in enumerate(lane)]
        for lane in lengths
    ]
    rows = sum(widths)
    q, k, v = (random(h, rows, head_dim) for h in (kv_heads * groups, kv_heads, kv_heads))
    parts = cascade_parts(segments, widths, layout, device)
    return Pass(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), parts)


def difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape and a.dtype == b.dtype
    assert a.isfinite().all() and b.isfinite().all()
    return float((a.float() - b.float()).abs().max())
