"""Segments on their way between nodes: arrays, which Ray carries out of band, with the checksums
that they were first stored with. Who gets one verifies it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvstore.checksum import segment_crcs
from kvstore.types import Lineage, SegmentSpec


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
        return self.data.nbytes == self.spec.layout.nbytes

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
    """Runs of at most so many bytes; a segment that is larger is one alone."""
    chunk, nbytes = list[SegmentSpec](), 0
    for spec in specs:
        if chunk and nbytes + spec.layout.nbytes > max_bytes:
            yield chunk
            chunk, nbytes = [], 0
        chunk.append(spec)
        nbytes += spec.layout.nbytes
    if chunk:
        yield chunk
