"""Copies from the arena to a GPU through two small pinned buffers, in turn.

Why not pin the arena itself: readers map it privately, and `cudaHostRegister` asks for writable
pages, so the kernel would give this process a copy of every page that no longer follows the store.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_BUFFER_BYTES = 16 * 2**20


class Staging:
    """Two buffers: one is filled by the CPU while the other one is on its way. For one thread.

    Without a GPU the buffers are ordinary memory and each copy is done when it returns.
    """

    def __init__(self, device: torch.device, buffer_bytes: int = _BUFFER_BYTES) -> None:
        pinned = device.type == "cuda"
        self._buffers = [
            torch.empty(buffer_bytes, dtype=torch.uint8, pin_memory=pinned) for _ in range(2)
        ]
        self._sent = [torch.cuda.Event() for _ in range(2 * pinned)]  # type: ignore[no-untyped-call]
        self._turn = 0

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Bytes [n] of the host into bytes [n] of the GPU, on its current stream. The source has
        been read on return; the target is complete for what follows on the stream."""
        self.gather([source], target)

    def gather(self, pieces: Sequence[Tensor], target: Tensor) -> None:
        """The same from pieces of bytes, one behind the other, in as few transfers as there are
        buffers to fill."""
        at = filled = 0
        for piece in pieces:
            while len(piece):
                part = piece[: len(self._buffers[0]) - filled]
                self._free_buffer(filled)[filled : filled + len(part)].copy_(part)
                filled, piece = filled + len(part), piece[len(part) :]
                if filled == len(self._buffers[0]):
                    self._send(target[at : at + filled])
                    at, filled = at + filled, 0
        if filled:
            self._send(target[at : at + filled])

    def _free_buffer(self, filled: int) -> Tensor:
        """The buffer in turn; before its first byte is written, what it held has arrived."""
        if not filled and self._sent:
            self._sent[self._turn].synchronize()
        return self._buffers[self._turn]

    def _send(self, target: Tensor) -> None:
        target.copy_(self._buffers[self._turn][: len(target)], non_blocking=True)
        if self._sent:
            self._sent[self._turn].record()
        self._turn = 1 - self._turn
