"""Payload codecs: how the bytes of a layer are written to a slow tier. All but `raw` are lossy.

A layer is [2, num_kv_heads, num_tokens, head_dim] (keys, values) and is encoded alone, so that a
segment is still read layer by layer. `raw` keeps its bytes. `int8` and `fp8` write

    offset                           size  what
    0               8 x heads x head_dim  scales, float32, [2, num_kv_heads, head_dim]
    ...  2 x heads x tokens x head_dim    codes, one byte each, in the order of the layer

little-endian, without padding: the size follows from the layout. A value is scale x code, rounded
to the layer's dtype. A code is an integer of -127..127 (`int8`), or a float8 e4m3fn of -448..448
(`fp8`, arXiv 2209.05433); both are rounded to nearest even.

A scale belongs to one channel over all tokens of the segment, because the outliers of keys stay in
their channels (KIVI, arXiv 2402.02750). KIVI scales values per token, which takes more scales to
store and measured worse in 8 bits. Relative RMS error, mean over the layers of eleven segments of
20 to 232 tokens, SmolLM2-135M in fp32:

                 int8, keys   int8, values   fp8, keys   fp8, values
    per channel       .0043          .0065       .0260         .0252
    per token         .0110          .0072       .0209         .0242

`fp8`, whose steps are relative, would do better per token, and is behind `int8` in either case.

A scale is the channel's largest magnitude over the largest code, rounded down to 17 significant
bits and at least 2**-126. So scale x code is exact in float32 and never above the largest
magnitude: what was decoded encodes to the same bytes again, however often it moves between tiers,
and a channel of zeros stays zero.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from kvstore.config import CodecName
from kvstore.floats import (
    Codes,
    Floats,
    Stored,
    from_e4m3,
    from_float32,
    largest_magnitudes,
    to_e4m3,
    to_float32,
)
from kvstore.types import Layout

_STORED = {"float32": np.float32, "bfloat16": np.uint16, "float16": np.float16}
_SCALE_BITS = np.uint32(0xFFFFFF80)
_SMALLEST_SCALE = np.float32(2**-126)


class Codec(ABC):
    """Encodes and decodes single layers. Stateless, hence thread-safe; no input or output."""

    name: ClassVar[CodecName]
    code: ClassVar[int]
    """The codec's number in the header of a segment file."""
    lossless: ClassVar[bool]

    def accepts(self, other: "Codec") -> bool:
        """Whether a store of this codec serves what was written in `other`: what lost nothing, or
        what it would have lost itself. So `raw` promises exactness, whoever wrote before."""
        return other.lossless or other is self

    @abstractmethod
    def encoded_layer_nbytes(self, layout: Layout) -> int:
        """Bytes of every encoded layer: layer i of a segment starts at i times this."""

    @abstractmethod
    def encode_layer(self, layout: Layout, data: memoryview) -> memoryview:
        """`data` is exactly a layer; the result may be `data` itself.

        Raises ValueError when the codec cannot represent the layer, because a value is infinite or
        not a number: such a segment is to be written raw.
        """

    @abstractmethod
    def decode_layer(self, layout: Layout, encoded: memoryview, into: memoryview) -> None:
        """Write exactly a layer into `into`. Damage is for checksums over `encoded` to find."""


class RawCodec(Codec):
    name, code, lossless = "raw", 0, True

    def encoded_layer_nbytes(self, layout: Layout) -> int:
        return layout.layer_nbytes

    def encode_layer(self, layout: Layout, data: memoryview) -> memoryview:
        return data

    def decode_layer(self, layout: Layout, encoded: memoryview, into: memoryview) -> None:
        into[:] = encoded


class ScaledCodec(Codec):
    """One scale per channel, one byte per value; a subclass says what the byte means."""

    lossless = False
    largest: ClassVar[float]
    """Magnitude of the largest code."""

    @abstractmethod
    def _encode(self, work: Floats, codes: Codes) -> None:
        """Codes of numbers within `largest`; overwrites `work`."""

    @abstractmethod
    def _decode(self, codes: Codes, into: Floats) -> None:
        """Numbers of codes."""

    def encoded_layer_nbytes(self, layout: Layout) -> int:
        num_scales = 2 * layout.num_kv_heads * layout.head_dim
        return num_scales * (4 + layout.num_tokens)

    def encode_layer(self, layout: Layout, data: memoryview) -> memoryview:
        encoded = memoryview(bytearray(self.encoded_layer_nbytes(layout)))
        for values, scales, codes in _halves(layout, data, encoded):
            scales[...] = self._scales(largest_magnitudes(values))
            work = to_float32(values)
            np.multiply(work, 1 / scales, out=work)
            self._encode(work, codes)
        return encoded

    def decode_layer(self, layout: Layout, encoded: memoryview, into: memoryview) -> None:
        for values, scales, codes in _halves(layout, into, encoded):
            in_place = values.dtype == np.float32
            work = values if in_place else np.empty(values.shape, np.float32)
            self._decode(codes, work)
            np.multiply(work, scales, out=work)
            if not in_place:
                from_float32(work, values)

    def _scales(self, largest: Floats) -> Floats:
        """[heads, 1, head_dim], from the largest magnitude of every channel."""
        if num := np.count_nonzero(~np.isfinite(largest)):
            raise ValueError(
                f"{self.name} cannot represent a layer in which {num} of {largest.size} channels "
                f"hold a value that is not finite"
            )
        scales: Floats = largest / np.float32(self.largest)
        bits = scales.view(np.uint32)
        bits &= _SCALE_BITS
        np.maximum(scales, _SMALLEST_SCALE, out=scales)
        return scales


class Int8Codec(ScaledCodec):
    name, code, largest = "int8", 1, 127.0

    def _encode(self, work: Floats, codes: Codes) -> None:
        np.rint(work, out=work)
        np.copyto(codes, work, casting="unsafe")

    def _decode(self, codes: Codes, into: Floats) -> None:
        np.copyto(into, codes)


class Fp8Codec(ScaledCodec):
    name, code, largest = "fp8", 2, 448.0

    def _encode(self, work: Floats, codes: Codes) -> None:
        to_e4m3(work, codes)

    def _decode(self, codes: Codes, into: Floats) -> None:
        from_e4m3(codes, into)


RAW = RawCodec()
_CODECS: dict[CodecName, Codec] = {c.name: c for c in (RAW, Int8Codec(), Fp8Codec())}

ALL_CODECS = tuple(_CODECS.values())


def create_codec(name: CodecName) -> Codec:
    """Raises ValueError for a name that is none of kvstore.config.CODECS."""
    if name not in _CODECS:
        raise ValueError(f"codec is {name!r}, must be one of {', '.join(_CODECS)}")
    return _CODECS[name]


def codec_of(code: int) -> Codec:
    """The codec with this number in a header. Raises ValueError when there is none."""
    for codec in _CODECS.values():
        if codec.code == code:
            return codec
    known = ", ".join(f"{codec.code} ({name})" for name, codec in _CODECS.items())
    raise ValueError(f"codec is {code}, must be one of {known}")


def _halves(
    layout: Layout, data: memoryview, encoded: memoryview
) -> Iterator[tuple[Stored, Floats, Codes]]:
    """Views of keys, then of values: numbers [heads, tokens, head_dim], scales [heads, 1, head_dim]
    and codes [heads, tokens, head_dim].

    Each half alone, because freeing work arrays of a whole layer makes glibc return the top of its
    heap, and the page faults that follow cost as much as encoding.
    """
    heads, tokens, head_dim = layout.shape[2:]
    scales_nbytes = 2 * heads * head_dim * 4
    return zip(
        np.frombuffer(data, _STORED[layout.dtype]).reshape(2, heads, tokens, head_dim),
        np.frombuffer(encoded[:scales_nbytes], np.float32).reshape(2, heads, 1, head_dim),
        np.frombuffer(encoded[scales_nbytes:], np.int8).reshape(2, heads, tokens, head_dim),
        strict=True,
    )
