"""One segment in a medium: its header is read first, its layers one by one, each verified."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from kvstore.checksum import layer_bytes, layer_crc, verify_layer
from kvstore.codec import (
    PAGE,
    Header,
    decode_header,
    encode_header,
    file_nbytes,
    header_nbytes,
)
from kvstore.compression import Codec
from kvstore.errors import CorruptSegmentError, TierUnavailableError
from kvstore.tiers.base import Entry, Reader
from kvstore.tiers.medium import Listed, Medium, Source
from kvstore.types import SegmentSpec, TierName


@dataclass(frozen=True, slots=True)
class Stored:
    """An object of a medium, by which it is named until its bytes are gone."""

    entry: Entry
    name: str


class ObjectReader(Reader):
    """Owns the source from here on."""

    def __init__(self, source: Source, expected: SegmentSpec, tier: TierName, name: str) -> None:
        """Raises OSError, or CorruptSegmentError when the object is not this segment's."""
        try:
            header = read_header(source, name)
            if header.spec != expected:
                raise CorruptSegmentError(str(expected.key), f"{name} holds {header.spec.key}")
        except BaseException:
            source.close()
            raise
        super().__init__(header.spec, header.crcs)
        self._source, self._tier, self._codec = source, tier, header.codec
        self._stored_crcs = header.crcs

    def layer(self, index: int, into: memoryview | None = None) -> memoryview:
        layout = self.spec.layout
        data = memoryview(bytearray(layout.layer_nbytes)) if into is None else into
        if self._codec.lossless:
            self._read(index, data)
            return data
        encoded = memoryview(bytearray(self._codec.encoded_layer_nbytes(layout)))
        self._read(index, encoded)
        self._codec.decode_layer(layout, encoded, data)
        crc = layer_crc(self.spec.key, index, data)
        self.crcs = (*self.crcs[:index], crc, *self.crcs[index + 1 :])
        return data

    def _read(self, index: int, data: memoryview) -> None:
        """One layer as it is stored, verified."""
        offset = header_nbytes(self.spec.layout.num_layers) + index * data.nbytes
        try:
            done = _read_all(self._source, data, offset)
        except OSError as error:
            raise TierUnavailableError(self._tier, f"{self.spec.key}: {error}") from error
        if done != data.nbytes:
            raise CorruptSegmentError(str(self.spec.key), f"layer {index} ends after {done} bytes")
        verify_layer(self.spec.key, index, data, self._stored_crcs[index])

    def close(self) -> None:
        self._source.close()


def encode_segment(
    spec: SegmentSpec, data: memoryview, crcs: Sequence[int], codec: Codec
) -> tuple[bytes, memoryview]:
    """Header and payload of a segment with the checksums `crcs`. What the codec cannot represent is
    written raw."""
    if not codec.lossless:
        layers = (layer_bytes(spec, data, i) for i in range(spec.layout.num_layers))
        with suppress(ValueError):
            encoded = [codec.encode_layer(spec.layout, layer) for layer in layers]
            coded = tuple(layer_crc(spec.key, i, layer) for i, layer in enumerate(encoded))
            return encode_header(Header(spec, coded, codec)), memoryview(b"".join(encoded))
    return encode_header(Header(spec, tuple(crcs))), data


def identify(medium: Medium, listed: Listed) -> Stored:
    """What an object is, by its header. Raises OSError, or CorruptSegmentError when header, size
    and name do not agree."""
    with medium.open(listed.name) as source:
        spec, nbytes = read_header(source, listed.name).spec, source.nbytes
    if spec.key.placement.hex() not in listed.name or spec.key.digest.hex() not in listed.name:
        raise CorruptSegmentError(str(spec.key), f"is in an object named {listed.name}")
    return Stored(Entry(spec, nbytes, listed.last_use), listed.name)


def read_header(source: Source, name: str) -> Header:
    """Raises OSError, or CorruptSegmentError when header, name and size do not agree."""
    data = bytearray(PAGE)
    done = _read_all(source, memoryview(data), 0)
    size = int.from_bytes(data[12:16], "little")
    if PAGE < size <= source.nbytes:
        data = bytearray(size)
        done = _read_all(source, memoryview(data), 0)
    header = decode_header(bytes(data[:done]), name)
    expected = file_nbytes(header.spec, header.codec)
    if source.nbytes != expected:
        raise CorruptSegmentError(name, f"{source.nbytes} bytes, expected {expected}")
    return header


def _read_all(source: Source, data: memoryview, offset: int) -> int:
    done = 0
    while done < data.nbytes and (n := source.read(data[done:], offset + done)):
        done += n
    return done
