"""Requests of an engine that computes right bytes, without a model."""

import time

import torch
from torch import Tensor

from actors.engine.segments import Segments
from actors.messages import CacheReport
from kvstore.types import Path, SegmentSpec
from tests.kvstore.segments import TRUNK, chain_of, passage, payload

SEGMENT_BYTES = 12 * 2**10
"""Of a passage; the trunk takes one granule of 4 KiB."""


def path_of(*numbers: int) -> Path:
    """The trunk and these passages, in this order."""
    return chain_of(TRUNK, *(passage(number) for number in numbers))


def right_kv(spec: SegmentSpec) -> Tensor:
    return torch.frombuffer(bytearray(payload(spec)), dtype=torch.float32).view(spec.layout.shape)


def same(kv: Tensor, spec: SegmentSpec) -> bool:
    return kv.cpu().contiguous().numpy().tobytes() == payload(spec)


def use(segments: Segments, *paths: Path) -> CacheReport:
    """One request: read what is there, compute the rest; what was read is right."""
    specs = dict.fromkeys(spec for path in paths for spec in path)
    with segments.lease(paths, time.monotonic() + 5) as lease:
        missing = [spec for spec in specs if spec.key not in lease.tensors]
        written = {}
        for spec in missing:
            sink = segments.sink(lease, spec)
            if sink is not None:
                written[spec.key] = sink.copy_(right_kv(spec))
        segments.publish(lease, written)
        assert all(same(lease.tensors[s.key], s) for s in specs if s.key in lease.tensors)
        assert segments.unchanged(lease)
        return lease.hits({spec.key for spec in specs}) + CacheReport(computed=len(missing))
