"""KV that moves beside a pass, layer by layer (PCR; ALGORITHMS 4.1).

Loading: layer l + 1 is copied to its place while layer l computes. Write-back: layer l is copied
out while later ones compute. Each direction has a thread of its own, on a GPU a stream too, and an
event a layer. Copies within the host are NumPy's, which hold no interpreter lock and leave the pass
its team of threads.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.engine.device.staging import Staging
from actors.engine.streams import HostStreams, Mark, Streams, create_streams
from kvstore.executor import DaemonExecutor

_MAX_OPEN = 2
"""Copies that have not ended, before another one begins: each holds the memory it reads."""
_BY_SIZE = {2: torch.int16, 4: torch.int32}


class Move(NamedTuple):
    """Both [L, 2, Hkv, T, dh]."""

    source: Tensor
    target: Tensor

    def layer_copy(self, staging: Staging | None) -> Callable[[int], object]:
        """Copies a layer, to a GPU through `staging` and on the caller's stream. What it reads of
        the host, and writes there, it has when it returns."""
        if staging is not None and self.source.device.type == "cpu":
            return partial(self._stage, staging)
        if self.source.device.type == self.target.device.type == "cpu":
            target, source = _array(self.target), _array(self.source)
            return lambda layer: np.copyto(target[layer], source[layer])
        return lambda layer: self.target[layer].copy_(self.source[layer])

    def _stage(self, staging: Staging, layer: int) -> None:
        """One transfer of bytes that lie together, and from there to their rows."""
        target = self.target[layer]
        landed = torch.empty(target.shape, dtype=target.dtype, device=target.device)
        source = self.source[layer].reshape(-1).view(torch.uint8)
        staging.copy(source, landed.view(-1).view(torch.uint8))
        target.copy_(landed)


class LayerClock:
    """How many layers are done, of a pass or of a copy. Any thread may wait for one."""

    def __init__(self, streams: Streams | None = None) -> None:
        """`streams`: those of who moves the clock, and of who waits."""
        self.began = time.monotonic()
        self._streams = streams or HostStreams()
        self._marks: list[Mark] = []
        """Behind each layer that is done."""
        self._ended: bool | None = None
        self._changed = threading.Condition()

    @property
    def done(self) -> int:
        """Layers, on a GPU those that were enqueued."""
        return len(self._marks)

    @property
    def ended(self) -> bool:
        return self._ended is not None

    def reach(self, done: int) -> None:
        """For one thread. What it has enqueued so far is behind these layers."""
        if done > len(self._marks):
            mark = self._streams.record()
            with self._changed:
                self._marks += [mark] * (done - len(self._marks))
                self._changed.notify_all()

    def end(self, whole: bool) -> None:
        """There will be no more; the first word counts."""
        with self._changed:
            self._ended = whole if self._ended is None else self._ended
            self._changed.notify_all()

    def wait(self, layer: int) -> bool:
        """Whether this layer is done, when it is or nothing more will come. Who moves the clock
        ends it, whatever happens. On a GPU what the caller enqueues from then on follows it."""
        with self._changed:
            self._changed.wait_for(lambda: self.done > layer or self._ended is not None)
            if self.done <= layer:
                return False
            self._streams.wait(self._marks[layer])
            return True

    def wait_end(self) -> bool:
        """Whether all is done, when nothing more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended is not None)
            if self._marks:
                self._streams.wait(self._marks[-1])
            return bool(self._ended)


class LayerCopies:
    """Copies of whole segments, a layer at a time, one call after the other."""

    def __init__(
        self, name: str, beside: bool, device: torch.device, streams: Streams | None = None
    ) -> None:
        """`beside`: on a thread of its own, and a stream; else the caller waits for each copy."""
        self._streams = streams or (create_streams(device) if beside else HostStreams())
        self._staging = Staging(device) if device.type == "cuda" else None
        self._thread = DaemonExecutor(1, name) if beside else None
        self._open: deque[LayerClock] = deque()

    @property
    def beside(self) -> bool:
        return self._thread is not None

    def begin(
        self,
        moves: Sequence[Move],
        may_copy: Callable[[int], bool],
        is_valid: Callable[[], bool] = lambda: True,
        done: Callable[[bool], None] = lambda whole: None,
    ) -> LayerClock:
        """Copy layer after layer, each once `may_copy(layer)` has returned; it may block, and False
        ends the copy, as the end of the clock does. `is_valid` has the last word on what was
        copied; then, whatever happened, `done(whole)` is called, and the clock, which is that of
        the copies, ends behind it."""
        while len(self._open) >= _MAX_OPEN:
            self._open.popleft().wait_end()
        clock = self.clock()
        if self._thread is None:
            self._copy(moves, may_copy, is_valid, done, clock)
        else:
            self._streams.follow()  # where copies go to, the pass before may still read
            self._open.append(clock)
            self._thread.submit(self._copy, moves, may_copy, is_valid, done, clock)
        return clock

    def clock(self) -> LayerClock:
        """Of what these copies move, or wait for."""
        return LayerClock(self._streams)

    def close(self) -> None:
        """When what has begun is done. Idempotent."""
        if self._thread is not None:
            self._thread.shutdown()

    def _copy(
        self,
        moves: Sequence[Move],
        may_copy: Callable[[int], bool],
        is_valid: Callable[[], bool],
        done: Callable[[bool], None],
        clock: LayerClock,
    ) -> None:
        whole = False
        try:
            with self._streams.copying():
                for tensor in (tensor for move in moves for tensor in move):
                    self._streams.keep(tensor)
                copies = [move.layer_copy(self._staging) for move in moves]
                for layer in range(len(moves[0].source)):
                    if clock.ended or not may_copy(layer):
                        return
                    for copy in copies:
                        copy(layer)
                    clock.reach(layer + 1)
            whole = is_valid()
        finally:
            try:
                done(whole)
            finally:
                clock.end(whole)


def _array(kv: Tensor) -> NDArray[np.int_]:
    """The tensor's own bytes: NumPy has no bfloat16."""
    array: NDArray[np.int_] = kv.view(_BY_SIZE[kv.element_size()]).numpy()
    return array
