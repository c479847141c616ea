"""The file of one segment, little-endian.

    offset        size  what
    0                8  magic b"HRKVSEGM"
    8                4  version, u32 = 4
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
    128              8  writer: identity of the store that wrote it; zero on a store's own disk
    136              8  seal: digest of the key of the MACs; zero without them
    144              4  number of segments that it follows in its chain, u32, 128 at most
    148        4 x 128  mark of each: the first bytes of its tag, the chain's first segment first
    660   4 x num_layers  CRC32C per layer over (key, layer index as u32, the layer's bytes here)
    ...   16 x num_layers  MAC per layer, where there is a seal (`kvstore/seal.py`)
    ...             16  MAC of all header bytes before it, where there is a seal
    ...                 zero
    size - 4         4  CRC32C of all header bytes before it
    size      payload   layers in order, each [2, num_kv_heads, num_tokens, head_dim], encoded

The file ends with the last layer. So no byte of it can change unseen: the header's own checksum
covers its padding, and each layer's covers the payload. The key says model and tenant, because its
chain of digests starts there; the marks say whose removal takes it, whether those segments are
there or not. The payload starts at a page, for direct reads.

Magic, version and size, and the header's checksum at its end, stand there in every version: a sound
object of another version is told from a damaged one, and is discarded as a miss.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import crc32c

from kvstore.compression import RAW, Codec, codec_of
from kvstore.errors import CorruptSegmentError, OtherVersionError
from kvstore.types import MARK_NBYTES, MAX_FOLLOWED, Dtype, Layout, SegmentKey, SegmentSpec

PAGE = 4096
_MAGIC = b"HRKVSEGM"
VERSION = 4
_FIXED = struct.Struct(f"<8sII8s32s32s8s8sIIIIII8s8sI{MARK_NBYTES * MAX_FOLLOWED}s")
MAC_NBYTES = 16
_CRC = struct.Struct("<I")
DTYPES: dict[Dtype, int] = {"float32": 1, "bfloat16": 2, "float16": 3}
DTYPE_NAMES: dict[int, Dtype] = {code: name for name, code in DTYPES.items()}
MAX_HEADER_NBYTES = 131072
MAX_LAYERS = (MAX_HEADER_NBYTES - _FIXED.size - _CRC.size - MAC_NBYTES) // (4 + MAC_NBYTES)
LABEL_NBYTES = _FIXED.size
WRITER_AT = 128
NOBODY = bytes(8)
"""Writer of what one store alone can write, and seal of what has no MACs."""


@dataclass(frozen=True, slots=True)
class Label:
    """What an object is, apart from its bytes and their checksums."""

    spec: SegmentSpec
    codec: Codec = RAW
    writer: bytes = NOBODY
    """8 bytes, the identity of the store that wrote it."""
    seal: bytes = NOBODY
    """8 bytes, the digest of the key under which its MACs were made."""

    @property
    def header_nbytes(self) -> int:
        return header_nbytes(self.spec.layout.num_layers, self.seal != NOBODY)

    @property
    def nbytes(self) -> int:
        """Size of the whole object."""
        layout = self.spec.layout
        return self.header_nbytes + layout.num_layers * self.codec.encoded_layer_nbytes(layout)


@dataclass(frozen=True, slots=True)
class Header:
    spec: SegmentSpec
    crcs: tuple[int, ...]
    """Of the layers as they are encoded."""
    codec: Codec = RAW
    writer: bytes = NOBODY
    seal: bytes = NOBODY
    macs: tuple[bytes, ...] = ()
    """Of the layers as they are encoded, where there is a seal."""

    @property
    def label(self) -> Label:
        return Label(self.spec, self.codec, self.writer, self.seal)


MacOf = Callable[[bytes], bytes]
"""The MAC of a header's bytes."""


def header_nbytes(num_layers: int, sealed: bool = False) -> int:
    macs_nbytes = MAC_NBYTES * (num_layers + 1) if sealed else 0
    used = _FIXED.size + 4 * num_layers + macs_nbytes + _CRC.size
    return -(-used // PAGE) * PAGE


def file_nbytes(spec: SegmentSpec, codec: Codec = RAW) -> int:
    """Size of the segment's whole file without MACs; raw is the largest."""
    return Label(spec, codec).nbytes


def encode_header(header: Header, mac_of: MacOf | None = None) -> bytes:
    """`mac_of` is given where there is a seal."""
    spec, layout, size = header.spec, header.spec.layout, header.label.header_nbytes
    fixed = _FIXED.pack(
        _MAGIC, VERSION, size, spec.key.placement, spec.key.digest, spec.parent, spec.tag,
        spec.tenant, layout.num_layers, layout.num_kv_heads, layout.num_tokens, layout.head_dim,
        DTYPES[layout.dtype], header.codec.code, header.writer, header.seal,
        len(spec.follows) // MARK_NBYTES, spec.follows,
    )  # fmt: skip
    body = fixed + struct.pack(f"<{layout.num_layers}I", *header.crcs) + b"".join(header.macs)
    if mac_of is not None:
        body += mac_of(body)
    body = body.ljust(size - _CRC.size, b"\0")
    return body + _CRC.pack(crc32c.crc32c(body))


def signed_part(data: bytes, label: Label) -> tuple[bytes, bytes]:
    """The bytes of an encoded header that its own MAC covers, and that MAC."""
    end = _FIXED.size + (4 + MAC_NBYTES) * label.spec.layout.num_layers
    return data[:end], data[end : end + MAC_NBYTES]


def decode_label(data: bytes, name: str) -> Label:
    """Label at the start of `data`, whose checksum is not looked at. Raises
    CorruptSegmentError."""
    if len(data) < LABEL_NBYTES or data[:8] != _MAGIC:
        raise CorruptSegmentError(name, "is not a segment file")
    _, version, size, placement, digest, parent, tag, tenant, *rest = _FIXED.unpack_from(data)
    layers, heads, tokens, head_dim, dtype, codec, writer, seal, num_followed, marks = rest
    if version != VERSION:
        raise OtherVersionError(name, f"has version {version}, this is version {VERSION}")
    if dtype not in DTYPE_NAMES or header_nbytes(layers, seal != NOBODY) != size:
        raise CorruptSegmentError(name, f"has dtype {dtype} and {layers} layers in {size} bytes")
    if num_followed > MAX_FOLLOWED:
        raise CorruptSegmentError(name, f"follows {num_followed} segments")
    layout = Layout(layers, heads, tokens, head_dim, DTYPE_NAMES[dtype])
    follows = marks[: MARK_NBYTES * num_followed]
    spec = SegmentSpec(SegmentKey(placement, digest), parent, tag, tenant, layout, follows)
    try:
        return Label(spec, codec_of(codec), writer, seal)
    except ValueError as error:
        raise CorruptSegmentError(name, f"has an unknown codec: {error}") from error


def decode_header(data: bytes, name: str) -> Header:
    """Header at the start of `data`. `name` is for the message of a CorruptSegmentError; a sound
    header of another version is an OtherVersionError."""
    if len(data) < PAGE or data[:8] != _MAGIC:
        raise CorruptSegmentError(name, "is not a segment file")
    size = int.from_bytes(data[12:16], "little")
    if not PAGE <= size <= min(len(data), MAX_HEADER_NBYTES):
        raise CorruptSegmentError(name, f"has a header of {size} bytes, {len(data)} are there")
    body = data[: size - _CRC.size]
    if crc32c.crc32c(body) != _CRC.unpack_from(data, size - _CRC.size)[0]:
        raise CorruptSegmentError(name, "has a header with a wrong checksum")
    label = decode_label(data, name)
    layers = label.spec.layout.num_layers
    crcs = struct.unpack_from(f"<{layers}I", data, _FIXED.size)
    macs: tuple[bytes, ...] = ()
    if label.seal != NOBODY:
        start = _FIXED.size + 4 * layers
        ends = (start + MAC_NBYTES * i for i in range(layers))
        macs = tuple(data[at : at + MAC_NBYTES] for at in ends)
    return Header(label.spec, crcs, label.codec, label.writer, label.seal, macs)
