"""Copies beside a pass on a GPU, and the order between the two (PCR; ALGORITHMS 4.1)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

Mark = object
"""A place in the order of a stream."""


class Streams(Protocol):
    """What a pass enqueues, and what copies enqueue beside it."""

    def copying(self) -> AbstractContextManager[object]:
        """What the calling thread enqueues inside belongs to the copies, all else to the pass."""

    def follow(self) -> None:
        """Later copies begin when all that the pass has enqueued so far is done."""

    def record(self) -> Mark:
        """After all that was enqueued so far where the caller is, inside `copying` or not."""

    def wait(self, mark: Mark) -> None:
        """What the caller enqueues later, where it is, begins after the mark."""

    def keep(self, tensor: Tensor) -> None:
        """Its memory is nobody else's before what the caller enqueues, where it is, is done: a
        request that fails lets go of it without waiting."""


class CudaStreams:
    """A stream for copies beside the current one."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copying(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._copies)

    def follow(self) -> None:
        self._copies.wait_stream(torch.cuda.current_stream(self._device))

    def record(self) -> Mark:
        return torch.cuda.current_stream(self._device).record_event()

    def wait(self, mark: Mark) -> None:
        assert isinstance(mark, torch.cuda.Event)
        torch.cuda.current_stream(self._device).wait_event(mark)

    def keep(self, tensor: Tensor) -> None:
        if tensor.device.type == "cuda":
            tensor.record_stream(torch.cuda.current_stream(self._device))


class HostStreams:
    """A CPU's: what a call was asked to do is done when it returns."""

    def copying(self) -> AbstractContextManager[object]:
        return nullcontext()

    def follow(self) -> None:
        pass

    def record(self) -> Mark:
        return None

    def wait(self, mark: Mark) -> None:
        pass

    def keep(self, tensor: Tensor) -> None:
        pass


def create_streams(device: torch.device) -> Streams:
    return CudaStreams(device) if device.type == "cuda" else HostStreams()
