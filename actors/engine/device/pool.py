"""One fixed block of a device's memory under the contract of a tier."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from actors.engine.device.staging import Staging
from actors.engine.models import TORCH_DTYPES
from kvstore.allocator import Allocator
from kvstore.arena import GRANULE, granules
from kvstore.checksum import segment_crcs, verify_segment
from kvstore.errors import CapacityError
from kvstore.occupants import Occupants
from kvstore.tiers.base import Entry, MemoryReader, Reader, Tier
from kvstore.types import SegmentKey, SegmentSpec, TierName


@dataclass(eq=False, slots=True)
class Run:
    """Granules from `start` on that hold one segment; free when it is neither visible nor read."""

    spec: SegmentSpec
    start: int
    crcs: tuple[int, ...] = ()
    """Empty for what came from the arena, where it was verified."""
    visible: bool = True
    readers: int = 0
    last_use: float = field(default_factory=time.time)


class DevicePool(Tier):
    """Not thread-safe: the device tier's lock guards it. Never evicts.

    Copies and passes are on the device's current stream, one after the other: a pass that was
    started before its segment was removed reads it before the next copy can change it.
    """

    name: TierName = "device"

    def __init__(self, device: torch.device, nbytes: int) -> None:
        """Takes `nbytes`, rounded down to granules, of any torch device."""
        self._allocator = Allocator(nbytes // GRANULE)
        self.occupants = Occupants(self._allocator)
        self._bytes = torch.empty(self.capacity_bytes, dtype=torch.uint8, device=device)
        self._staging = Staging(device) if device.type == "cuda" else None
        self._visible: dict[SegmentKey, Run] = {}
        self._withdrawn: set[Run] = set()

    @property
    def capacity_bytes(self) -> int:
        return self._allocator.num_granules * GRANULE

    @property
    def used_bytes(self) -> int:
        return self.capacity_bytes - self._allocator.num_free * GRANULE

    def nbytes_of(self, spec: SegmentSpec) -> int:
        return granules(spec.layout.nbytes) * GRANULE

    def can_reserve(self, nbytes: int) -> bool:
        return self._allocator.can_allocate(granules(nbytes))

    def contains(self, key: SegmentKey) -> bool:
        return key in self._visible

    def fill(self, spec: SegmentSpec, kv: Tensor) -> Tensor:
        """Take a copy of KV [L, 2, Hkv, T, dh] on this device or, contiguous, on the host; the
        copy. What `kv` reads of the host may change on return. Raises CapacityError."""
        run = self._visible.get(spec.key)
        if run is not None:
            return self._kv(run)
        nbytes = self.nbytes_of(spec)
        if not self.can_reserve(nbytes):
            raise CapacityError(nbytes, self.capacity_bytes - self.used_bytes)
        run = Run(spec, self._allocator.allocate(granules(nbytes)))
        self._visible[spec.key] = run
        self.occupants.enter(spec.key, run.start)
        if self._staging is not None and kv.device.type == "cpu":
            self._staging.copy(kv.reshape(-1).view(torch.uint8), self._raw(run))
        else:
            self._kv(run).copy_(kv)
        return self._kv(run)

    def put(self, spec: SegmentSpec, data: memoryview, crcs: Sequence[int]) -> None:
        verify_segment(spec, data, crcs)
        if spec.key not in self._visible:
            source = torch.frombuffer(bytearray(data), dtype=TORCH_DTYPES[spec.layout.dtype])
            self.fill(spec, source.view(spec.layout.shape))
            self._visible[spec.key].crcs = tuple(crcs)

    def open(self, key: SegmentKey) -> Reader | None:
        run = self._visible.get(key)
        return None if run is None else _PoolReader(self, run, self._raw(run))

    def remove(self, key: SegmentKey) -> None:
        run = self._visible.pop(key, None)
        if run is not None:
            run.visible = False
            self.occupants.leave(key)
            self._withdrawn.add(run)
            self.free_if_unused(run)

    def free_if_unused(self, run: Run) -> None:
        """To be called when a reader has gone."""
        if not run.visible and not run.readers and run in self._withdrawn:
            self._withdrawn.remove(run)
            self._allocator.free(run.start)

    def keys(self) -> Iterator[Entry]:
        entries = [Entry(r.spec, self.nbytes_of(r.spec), r.last_use) for r in self._runs()]
        return iter(sorted(entries, key=lambda entry: entry.last_use))

    def check(self) -> list[str]:
        """Every taken run is a segment's, and none is kept for nobody."""
        problems = self._allocator.check()
        runs = [*self._runs(), *self._withdrawn]
        if {r.start: granules(r.spec.layout.nbytes) for r in runs} != self._allocator.taken():
            problems.append(f"device: {len(runs)} segments do not cover the taken runs")
        unread = [r.spec.key for r in self._withdrawn if not r.readers]
        return problems + [f"device: {key} is unread and withdrawn, but there" for key in unread]

    def close(self) -> None:
        """Give the memory back as soon as no tensor of it is in use."""
        self._bytes = self._bytes.new_empty(0)

    def _runs(self) -> list[Run]:
        return list(self._visible.values())

    def _raw(self, run: Run) -> Tensor:
        """Its bytes [n]."""
        start = run.start * GRANULE
        return self._bytes[start : start + run.spec.layout.nbytes]

    def _kv(self, run: Run) -> Tensor:
        layout = run.spec.layout
        return self._raw(run).view(TORCH_DTYPES[layout.dtype]).view(layout.shape)


class _PoolReader(MemoryReader):
    """Reads back to the host. What came from the arena without checksums gets those of its bytes
    here: the device's memory is trusted as the arena's is."""

    def __init__(self, pool: DevicePool, run: Run, raw: Tensor) -> None:
        self._pool, self._run = pool, run
        data = raw.cpu().numpy().data
        super().__init__(run.spec, run.crcs or segment_crcs(run.spec, data), data)
        run.readers += 1

    def close(self) -> None:
        self._run.readers -= 1
        self._pool.free_if_unused(self._run)
