"""What the device can do at most: the floor under every rerank."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from tests.gpu.candidates import Sizes
from tests.gpu.rig import Rig, parameters

_COPY_BYTES = 4 * 2**30
_HOST_BYTES = 2**30
_SIDE = 8192


@dataclass(frozen=True, slots=True)
class Machine:
    """Measured rates of one device."""

    flops_per_s: float
    """Of a large bf16 matrix product."""
    memory_bytes_per_s: float
    """Of a copy within the device, read and written bytes counted."""
    host_bytes_per_s: float
    """From pinned memory of the host."""


def measured(device: torch.device) -> Machine:
    a, b = (torch.randn(_SIDE, _SIDE, device=device).bfloat16() for _ in "ab")
    source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    pinned = torch.empty(_HOST_BYTES, dtype=torch.uint8, pin_memory=True)
    return Machine(
        2 * _SIDE**3 / _seconds(lambda: a @ b),
        2 * _COPY_BYTES / _seconds(lambda: target.copy_(source)),
        _HOST_BYTES / _seconds(lambda: target[:_HOST_BYTES].copy_(pinned, non_blocking=True)),
    )


def compute_floor_s(rig: Rig, sizes: Sizes, machine: Machine) -> float:
    """With all KV on the device: operations of layers, attention and head at the matrix rate, or
    weights and KV read once at the memory rate, whichever takes longer (ALGORITHMS 1.5)."""
    facts, layout = rig.model.config, rig.layout
    weights, head = parameters(rig.model), facts.hidden_size * facts.vocab_size
    width = facts.num_attention_heads * facts.head_dim * facts.num_hidden_layers
    attended = sizes.rows * (sizes.past + (sizes.question + 1) / 2)
    flops = 2.0 * sizes.rows * (weights + head) + 4.0 * width * attended
    moved = 2.0 * (weights + head) + sizes.candidates * sizes.past * layout.nbytes
    return float(max(flops / machine.flops_per_s, moved / machine.memory_bytes_per_s))


def _seconds(work: Callable[[], object], repetitions: int = 10) -> float:
    """Of one call, the mean of ten behind three."""
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repetitions):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / repetitions
