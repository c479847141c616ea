"""KV of DRAM hits on its way to a GPU while the pass computes, layer by layer (ALGORITHMS 4.1).

Layer l is copied on a stream of its own; the pass waits for it where the cache is asked for layer
l, and nowhere else. So all but the first layer's copy is hidden where a layer computes for longer
than it is copied. Hits of the device tier need none of this.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from actors.engine.device.staging import Staging
from actors.engine.models import TORCH_DTYPES
from actors.engine.streams import Mark, Streams, create_streams
from kvstore.types import Layout


class LayerLoader:
    """Slots for the KV of one pass at a time, in one buffer in which a layer of all segments is
    contiguous: one transfer a layer, however many candidates. For one thread."""

    def __init__(
        self,
        layout: Layout,
        device: torch.device,
        streams: Streams | None = None,
        gather: Callable[[Sequence[Tensor], Tensor], None] | None = None,
    ) -> None:
        """`gather` copies pieces of the host, one behind the other, into bytes of the device; a
        pinned ring unless given."""
        self._layout, self._device = layout, device
        self._streams = streams or create_streams(device)
        self._gather = gather or Staging(device).gather
        self._buffer = torch.empty(layout.num_layers, 0, dtype=torch.uint8, device=device)

    def begin(
        self, sources: Sequence[Tensor], arrived: Callable[[int], None] | None = None
    ) -> "Loading":
        """Lay out slots for these segments [L, 2, Hkv, T, dh] of the host, contiguous each.

        Their bytes are read layer by layer, in `Loading.wait`; `arrived(layer)` is called before
        and may block until that layer of all sources is there. Earlier slots are given up.
        """
        rows = [kv.reshape(self._layout.num_layers, -1).view(torch.uint8) for kv in sources]
        total = sum(row.shape[1] for row in rows)
        self._streams.follow()  # the pass before may still read the slots
        if self._buffer.shape[1] < total:
            shape = (self._layout.num_layers, total)
            self._buffer = torch.empty(shape, dtype=torch.uint8, device=self._device)
            self._streams.follow()  # and what lay there before may be another's
        slots, start = [], 0
        for kv, row in zip(sources, rows, strict=True):
            slot = self._buffer[:, start : start + row.shape[1]]
            dtype = TORCH_DTYPES[self._layout.dtype]
            slots.append(slot.view(dtype).view(kv.shape))
            start += row.shape[1]
        copy = _Copy(rows, self._buffer[:, :total], self._streams, self._gather)
        return Loading(slots, copy, arrived)


class Loading:
    """Segments on their way. `wait` is what `cascade_forward` takes."""

    def __init__(
        self, slots: list[Tensor], copy: "_Copy", arrived: Callable[[int], None] | None
    ) -> None:
        self.slots = slots
        """[L, 2, Hkv, T, dh] on the device: layer l may be read behind `wait(l)`."""
        self._copy, self._arrived = copy, arrived
        self._marks: list[Mark] = []

    def wait(self, layer: int) -> None:
        """What the pass enqueues later finds this layer complete. On return the host's bytes of
        it have been read."""
        while len(self._marks) <= layer:
            if self._arrived is not None:
                self._arrived(len(self._marks))
            self._marks.append(self._copy.layer(len(self._marks)))
        self._copy.streams.wait(self._marks[layer])

    def wait_all(self) -> None:
        """Every layer: for a graph, which waits nowhere inside."""
        self.wait(len(self._copy.target) - 1)


class _Copy:
    def __init__(
        self,
        rows: Sequence[Tensor],
        target: Tensor,
        streams: Streams,
        gather: Callable[[Sequence[Tensor], Tensor], None],
    ) -> None:
        self._rows, self.target, self.streams, self._gather = rows, target, streams, gather

    def layer(self, layer: int) -> Mark:
        with self.streams.copying():
            self._gather([row[layer] for row in self._rows], self.target[layer])
            return self.streams.record()
