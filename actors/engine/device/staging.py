"""Copies from the arena to a GPU through two small pinned buffers, in turn.

Why not pin the arena itself: readers map it privately, and `cudaHostRegister` asks for writable
pages, so the kernel would give this process a copy of every page that no longer follows the store.
"""

import torch
from torch import Tensor

_BUFFER_BYTES = 16 * 2**20


class Staging:
    """Two buffers: one is filled by the CPU while the other one is on its way. For one thread."""

    def __init__(self) -> None:
        self._buffers = [
            torch.empty(_BUFFER_BYTES, dtype=torch.uint8, pin_memory=True) for _ in range(2)
        ]
        self._sent = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]
        self._turn = 0

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Bytes [n] of the host into bytes [n] of the GPU, on its current stream. The source has
        been read on return; the target is complete for what follows on the stream."""
        for start in range(0, len(source), _BUFFER_BYTES):
            part = source[start : start + _BUFFER_BYTES]
            buffer, sent = self._buffers[self._turn], self._sent[self._turn]
            sent.synchronize()
            buffer[: len(part)].copy_(part)
            target[start : start + len(part)].copy_(buffer[: len(part)], non_blocking=True)
            sent.record()
            self._turn = 1 - self._turn
