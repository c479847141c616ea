"""The file of one segment, little-endian.

    offset        size  what
    0                8  magic b"HRKVSEGM"
    8                4  version, u32 = 2
    12               4  size of the header in bytes, u32, a multiple of 4096
    16               8  key: placement
    24              32  key: digest
    56              32  parent: digest of the segment before it, or the root digest
    88               8  tag of the passage
    96               8  tenant: digest of its name
    104              4  num_layers, u32
    108              4  num_kv_heads, u32
    112              4  num_tokens, u32
    116              4  head_dim, u32
    120              4  dtype, u32: 1 float32, 2 bfloat16, 3 float16
    124              4  codec of the payload, u32: 0 raw, 1 int8, 2 fp8 (`kvstore/compression.py`)
    128   4 x num_layers  CRC32C per layer over (key, layer index as u32, the layer's bytes here)
    ...                 zero
    size - 4         4  CRC32C of all header bytes before it
    size      payload   layers in order, each [2, num_kv_heads, num_tokens, head_dim], encoded

The file ends with the last layer. So no byte of it can change unseen: the header's own checksum
covers its padding, and each layer's covers the payload. The key says model and tenant, because its
chain of digests starts there. The payload starts at a page, for direct reads.

Magic, version and size, and the header's checksum at its end, stand there in every version: a sound
object of another version is told from a damaged one, and is discarded as a miss.
"""

import struct
from dataclasses import dataclass

import crc32c

from kvstore.compression import RAW, Codec, codec_of
from kvstore.errors import CorruptSegmentError, OtherVersionError
from kvstore.types import Dtype, Layout, SegmentKey, SegmentSpec

PAGE = 4096
_MAGIC = b"HRKVSEGM"
_VERSION = 2
_FIXED = struct.Struct("<8sII8s32s32s8s8sIIIIII")
_CRC = struct.Struct("<I")
_DTYPES: dict[Dtype, int] = {"float32": 1, "bfloat16": 2, "float16": 3}
_DTYPE_NAMES: dict[int, Dtype] = {code: name for name, code in _DTYPES.items()}
MAX_HEADER_NBYTES = 20480


@dataclass(frozen=True, slots=True)
class Header:
    spec: SegmentSpec
    crcs: tuple[int, ...]
    """Of the layers as they are encoded."""
    codec: Codec = RAW


def header_nbytes(num_layers: int) -> int:
    used = _FIXED.size + 4 * num_layers + _CRC.size
    return -(-used // PAGE) * PAGE


def file_nbytes(spec: SegmentSpec, codec: Codec = RAW) -> int:
    """Size of the segment's whole file; raw is the largest."""
    layout = spec.layout
    layer_nbytes = codec.encoded_layer_nbytes(layout)
    return header_nbytes(layout.num_layers) + layout.num_layers * layer_nbytes


def encode_header(header: Header) -> bytes:
    spec, layout = header.spec, header.spec.layout
    size = header_nbytes(layout.num_layers)
    fixed = _FIXED.pack(
        _MAGIC, _VERSION, size, spec.key.placement, spec.key.digest, spec.parent, spec.tag,
        spec.tenant, layout.num_layers, layout.num_kv_heads, layout.num_tokens, layout.head_dim,
        _DTYPES[layout.dtype], header.codec.code,
    )  # fmt: skip
    body = (fixed + struct.pack(f"<{layout.num_layers}I", *header.crcs)).ljust(
        size - _CRC.size, b"\0"
    )
    return body + _CRC.pack(crc32c.crc32c(body))


def decode_header(data: bytes, name: str) -> Header:
    """Header at the start of `data`. `name` is for the message of a CorruptSegmentError; a sound
    header of another version is an OtherVersionError."""
    if len(data) < PAGE or data[:8] != _MAGIC:
        raise CorruptSegmentError(name, "is not a segment file")
    _, version, size, placement, digest, parent, tag, tenant, *numbers = _FIXED.unpack_from(data)
    if not PAGE <= size <= min(len(data), MAX_HEADER_NBYTES):
        raise CorruptSegmentError(name, f"has a header of {size} bytes, {len(data)} are there")
    body = data[: size - _CRC.size]
    if crc32c.crc32c(body) != _CRC.unpack_from(data, size - _CRC.size)[0]:
        raise CorruptSegmentError(name, "has a header with a wrong checksum")
    if version != _VERSION:
        raise OtherVersionError(name, f"has version {version}, this is version {_VERSION}")
    layers, heads, tokens, head_dim, dtype, codec = numbers
    if dtype not in _DTYPE_NAMES or header_nbytes(layers) != size:
        raise CorruptSegmentError(name, f"has dtype {dtype} and {layers} layers in {size} bytes")
    layout = Layout(layers, heads, tokens, head_dim, _DTYPE_NAMES[dtype])
    spec = SegmentSpec(SegmentKey(placement, digest), parent, tag, tenant, layout)
    try:
        return Header(spec, struct.unpack_from(f"<{layers}I", data, _FIXED.size), codec_of(codec))
    except ValueError as error:
        raise CorruptSegmentError(name, f"has an unknown codec: {error}") from error
