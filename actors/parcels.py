"""Segments on their way between nodes: arrays, which Ray carries out of band, with the checksums
that they were first stored with. Who gets one verifies it."""

from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvstore.arguments import refused
from kvstore.checksum import segment_crcs
from kvstore.types import Lineage, SegmentSpec

CHUNK_BYTES = 16 * 2**20
"""What one reply carries: small beside Ray's object store, large beside the cost of a call."""
MAX_PARCELS = 4_096
"""In one call between nodes."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One segment."""

    spec: SegmentSpec
    crcs: tuple[int, ...]
    data: NDArray[np.uint8]
    lineage: Lineage = Lineage()  # a value
    """By which its receiver sees that it left before a removal."""

    @property
    def fits(self) -> bool:
        data, nbytes = self.data, self.spec.layout.nbytes
        return data.dtype == np.uint8 and data.shape == (nbytes,)

    @property
    def is_sound(self) -> bool:
        return self.fits and segment_crcs(self.spec, self.data.data) == self.crcs

    def copy_into(self, extent: memoryview) -> None:
        """Releases the GIL, which assigning to the view would keep for milliseconds."""
        np.copyto(np.frombuffer(extent, np.uint8), self.data)


def is_parcel(thing: object) -> bool:
    """Whether it is one, of bytes, and they are as many as its segment has."""
    return (
        isinstance(thing, Parcel)
        and isinstance(thing.spec, SegmentSpec)
        and isinstance(thing.data, np.ndarray)
        and thing.data.dtype == np.uint8
        and thing.data.ndim == 1
        and thing.fits
    )


def chunks(specs: Iterable[SegmentSpec], max_bytes: int) -> Iterator[list[SegmentSpec]]:
    """Runs of at most so many bytes, and of `MAX_PARCELS`; a segment that is larger is one
    alone."""
    chunk, nbytes = list[SegmentSpec](), 0
    for spec in specs:
        is_full = nbytes + spec.layout.nbytes > max_bytes or len(chunk) == MAX_PARCELS
        if chunk and is_full:
            yield chunk
            chunk, nbytes = [], 0
        chunk.append(spec)
        nbytes += spec.layout.nbytes
    if chunk:
        yield chunk


def require_few(name: str, items: Sized) -> None:
    """Raises ValueError for more than one call is to carry."""
    if len(items) > MAX_PARCELS:
        raise refused(name, f"{len(items)} items", f"at most {MAX_PARCELS}")
