"""One CRC32C per layer, over (key, layer index, bytes): a layer in the wrong place is a wrong
layer."""

from collections.abc import Sequence

import crc32c

from kvstore.errors import CorruptSegmentError
from kvstore.types import SegmentKey, SegmentSpec


def layer_crc(key: SegmentKey, layer: int, data: memoryview) -> int:
    """Releases the GIL over the data."""
    seed = crc32c.crc32c(key.placement + key.digest + layer.to_bytes(4, "little"))
    return crc32c.crc32c(data, seed)


def layer_bytes(spec: SegmentSpec, data: memoryview, layer: int) -> memoryview:
    """Bytes of one layer of a whole segment."""
    size = spec.layout.layer_nbytes
    return data[layer * size : (layer + 1) * size]


def segment_crcs(spec: SegmentSpec, data: memoryview) -> tuple[int, ...]:
    """Checksums of all layers of `data`, which is exactly the segment."""
    layers = range(spec.layout.num_layers)
    return tuple(layer_crc(spec.key, i, layer_bytes(spec, data, i)) for i in layers)


def verify_layer(key: SegmentKey, layer: int, data: memoryview, expected: int) -> None:
    """Raises CorruptSegmentError."""
    found = layer_crc(key, layer, data)
    if found != expected:
        raise CorruptSegmentError(
            str(key), f"layer {layer} has checksum {found:08x}, expected {expected:08x}"
        )


def verify_segment(spec: SegmentSpec, data: memoryview, crcs: Sequence[int]) -> None:
    """Raises CorruptSegmentError at the first wrong layer or size."""
    if len(crcs) != spec.layout.num_layers or data.nbytes != spec.layout.nbytes:
        raise CorruptSegmentError(
            str(spec.key),
            f"{data.nbytes} bytes with {len(crcs)} checksums, expected {spec.layout.nbytes} bytes "
            f"in {spec.layout.num_layers} layers",
        )
    for i, crc in enumerate(crcs):
        verify_layer(spec.key, i, layer_bytes(spec, data, i), crc)
