"""What a request holds of the KV that is there, from the device tier and from the store."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from actors.engine.device import Loan
from actors.engine.models import TORCH_DTYPES
from actors.messages import CacheReport
from kvstore.types import Acquired, Hit, Path, SegmentKey, SegmentSpec, Ticket, TierName


@dataclass(slots=True)
class Lease:
    """Pinned hits and claimed tickets of some paths; tensors are valid until the lease ends."""

    paths: Sequence[Path] = ()
    """Those that the store was asked for."""
    loan: Loan = field(default_factory=Loan)
    """What the device tier keeps for us until the lease ends."""
    kept: frozenset[SegmentKey] = frozenset()
    """Of the loan, what was there before: hits of the device tier."""
    tensors: dict[SegmentKey, Tensor] = field(default_factory=dict)
    """KV [L, 2, Hkv, T, dh] that is there: on the device, or views of the arena. Layers of what is
    arriving are there after `Segments.await_layer`."""
    tickets: dict[SegmentKey, Ticket] = field(default_factory=dict)
    """What is ours to compute."""
    waiting: frozenset[SegmentKey] = frozenset()
    """What another holder is computing."""
    deadline: float = 0.0
    """Of the request, a monotonic time."""
    acquired: Acquired | None = None
    acquire_s: float = 0.0
    """What the store took to answer; of what is not streamed, reading it included."""
    arriving: list[Hit] = field(default_factory=list)
    """Those of the store's hits that were still being read when it answered."""
    late: list[Hit] = field(default_factory=list)
    """Those, and where the request itself brings hits to the device all of them: the device tier
    takes them in at the end of the lease."""
    brought: Mapping[SegmentKey, Tensor] = field(default_factory=dict)
    """Where the request has brought hits to: whole, unchanged, its own for as long as the lease."""
    store: Literal["used", "off", "unavailable"] = "used"

    @property
    def arriving_keys(self) -> frozenset[SegmentKey]:
        return frozenset(hit.spec.key for hit in self.arriving)

    def hits(self, keys: Collection[SegmentKey]) -> CacheReport:
        """Report on those of the keys that were found."""
        device = [self.loan.residents[key].spec for key in keys if key in self.kept]
        found = [hit for hit in self.store_hits if hit.spec.key in keys]
        tiers = Counter(hit.tier for hit in found)
        return CacheReport(
            device_hits=len(device),
            dram_hits=tiers["dram"],
            ssd_hits=tiers["ssd"],
            peer_hits=tiers["peer"],
            remote_hits=tiers["remote"],
            tokens_reused=sum(s.layout.num_tokens for s in [*device, *(h.spec for h in found)]),
            bytes_moved=sum(hit.spec.layout.nbytes for hit in found),
            store=self.store,
        )

    def nbytes(self, keys: Collection[SegmentKey]) -> dict[TierName, int]:
        """Of those of the keys that the store had, by the tier that they came from."""
        found = Counter[TierName]()
        for hit in self.store_hits:
            if hit.spec.key in keys:
                found[hit.tier] += hit.spec.layout.nbytes
        return dict(found)

    @property
    def store_hits(self) -> list[Hit]:
        """What was read from the store, and not from the device tier."""
        hits = self.acquired.hits.values() if self.acquired else ()
        return [hit for hit in hits if hit.spec.key not in self.kept]


def as_tensor(buffer: memoryview, spec: SegmentSpec) -> Tensor:
    """A tensor over the buffer's bytes, without a copy."""
    return torch.frombuffer(buffer, dtype=TORCH_DTYPES[spec.layout.dtype]).view(spec.layout.shape)
