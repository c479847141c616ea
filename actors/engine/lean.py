"""The same bits with less traffic to memory, on a CPU: norms and gates of a loaded model, malloc.

transformers writes every step of RMSNorm and of SwiGLU to a tensor of its own; with thousands of
tokens a pass, those tensors cost as much as a third of the matrix products. RMSNorm runs here in
blocks of rows that stay in the cache, SwiGLU in place, and freed memory stays with the process.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

_BLOCK = 1 << 17
"""Elements whose fp32 copy stays in the second-level cache."""
_KEEP_BYTES = 1 << 30


class LeanRMSNorm(torch.nn.Module):
    """Llama's RMSNorm (arXiv 1910.07467): statistics in fp32, the weight applied in x's type."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight: Tensor = norm.weight
        self._eps = float(norm.variance_epsilon)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., d]; the result has its shape and type."""
        rows = x.reshape(-1, x.shape[-1])
        out = torch.empty_like(rows)
        size = max(1, _BLOCK // x.shape[-1])
        for start in range(0, len(rows), size):
            block = slice(start, start + size)
            high = rows[block].to(torch.float32, copy=True)
            high.mul_(torch.rsqrt(high.pow(2).mean(-1, keepdim=True) + self._eps))
            torch.mul(self.weight, high.to(x.dtype), out=out[block])
        return out.view(x.shape)


class LeanSwiGLU(torch.nn.Module):
    """down(silu(gate(x)) * up(x)) (arXiv 2002.05202)."""

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj

    def forward(self, x: Tensor) -> Tensor:
        """x [..., d]; the result has its shape and type."""
        out: Tensor = self.down_proj(silu(self.gate_proj(x), inplace=True).mul_(self.up_proj(x)))
        return out


@torch.inference_mode()
def make_lean(model: Any) -> int:
    """Replace what can be, in place; how many modules. For inference: nothing keeps gradients.

    A family whose norm or gate is computed differently is left as it is: a module is replaced only
    where both give the same bits for random input.
    """
    replaced = 0
    for name, module in list(model.named_modules()):
        lean = _lean(module)
        if lean is not None and _agree(module, lean):
            parent = model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], lean)
            replaced += 1
    return replaced


def _lean(module: Any) -> Any:
    if hasattr(module, "variance_epsilon") and hasattr(module, "weight"):
        return LeanRMSNorm(module)
    if all(hasattr(module, part) for part in ("gate_proj", "up_proj", "down_proj")):
        return LeanSwiGLU(module)
    return None


def _agree(module: Any, lean: Any) -> bool:
    weight = module.gate_proj.weight if isinstance(lean, LeanSwiGLU) else module.weight
    seeded = torch.Generator().manual_seed(0)
    x = torch.randn(1, 5, weight.shape[-1], generator=seeded).to(weight.dtype)
    expected: Tensor = module(x)
    return torch.equal(expected, lean(x))


def keep_freed_memory() -> None:
    """Let malloc keep up to 1 GiB that is freed, of any size, for the next pass of this process.

    By default glibc returns what a pass frees to the system, and the next one takes a page fault
    for every 4 KiB of it. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(option, _KEEP_BYTES)
        mallopt(_M_ARENA_MAX, 1)  # a thread's own arena is capped at 64 MiB and given back whole


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
