"""One segment in a medium: its header is read first, its layers one by one, each verified."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from kvstore.checksum import layer_bytes, layer_crc, verify_layer
from kvstore.codec import (
    MAX_HEADER_NBYTES,
    NOBODY,
    PAGE,
    Header,
    Label,
    decode_header,
    encode_header,
)
from kvstore.compression import RAW, Codec
from kvstore.errors import CorruptSegmentError, TierUnavailableError
from kvstore.seal import Seal
from kvstore.tiers.base import Entry, Reader
from kvstore.tiers.medium import Listed, Medium, Source
from kvstore.types import SegmentSpec, TierName

_PIECE_BYTES = 4 * 2**20
"""What is read at once. A medium that gives so much within the deadline of a call is slow, and does
not hang."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object of a medium, by which it is named until its bytes are gone."""

    entry: Entry
    name: str
    own: bool = True
    """Whether this store wrote it, counts its bytes and may evict it."""
    writer: bytes = NOBODY

    @property
    def charged_bytes(self) -> int:
        return self.entry.nbytes if self.own else 0


class ObjectReader(Reader):
    """Owns the source from here on."""

    def __init__(
        self,
        source: Source,
        stored: Stored,
        tier: TierName,
        seal: Seal | None = None,
    ) -> None:
        """Raises OSError, or CorruptSegmentError when the object is another one. With a seal
        nothing of it is used whose MAC is not right: AuthenticationError."""
        try:
            header = read_header(source, stored.name, seal)
            if (header.spec, header.writer) != (stored.entry.spec, stored.writer):
                text = f"{stored.name} holds {header.spec.key} of {header.writer.hex()}"
                raise CorruptSegmentError(str(stored.entry.key), text)
        except BaseException:
            source.close()
            raise
        super().__init__(header.spec, header.crcs)
        self._source, self._tier, self.codec = source, tier, header.codec
        self._header, self._seal = header, seal

    def layer(self, index: int, into: memoryview | None = None) -> memoryview:
        layout = self.spec.layout
        data = memoryview(bytearray(layout.layer_nbytes)) if into is None else into
        if self.codec.lossless:
            self._read(index, data)
            return data
        encoded = memoryview(bytearray(self.codec.encoded_layer_nbytes(layout)))
        self._read(index, encoded)
        self.codec.decode_layer(layout, encoded, data)
        crc = layer_crc(self.spec.key, index, data)
        self.crcs = (*self.crcs[:index], crc, *self.crcs[index + 1 :])
        return data

    def _read(self, index: int, data: memoryview) -> None:
        """One layer as it is stored, verified."""
        offset = self._header.label.header_nbytes + index * data.nbytes
        done = 0
        try:
            while done < data.nbytes and (n := self._read_piece(data[done:], offset + done)):
                done += n
        except OSError as error:
            raise TierUnavailableError(self._tier, f"{self.spec.key}: {error}") from error
        if done != data.nbytes:
            raise CorruptSegmentError(str(self.spec.key), f"layer {index} ends after {done} bytes")
        if self._seal is not None:
            self._seal.verify_layer(self._header, index, data)
        verify_layer(self.spec.key, index, data, self._header.crcs[index])

    def _read_piece(self, data: memoryview, offset: int) -> int:
        done = self._source.read(data[:_PIECE_BYTES], offset)
        self.last_bytes_at = time.monotonic()
        return done

    def close(self) -> None:
        self._source.close()


def encode_segment(
    spec: SegmentSpec,
    data: memoryview,
    crcs: Sequence[int],
    codec: Codec,
    writer: bytes = NOBODY,
    seal: Seal | None = None,
) -> tuple[bytes, memoryview]:
    """Header and payload of a segment with the checksums `crcs`. What the codec cannot represent is
    written raw."""
    if not codec.lossless:
        layers = (layer_bytes(spec, data, i) for i in range(spec.layout.num_layers))
        with suppress(ValueError):
            encoded = [codec.encode_layer(spec.layout, layer) for layer in layers]
            coded = tuple(layer_crc(spec.key, i, layer) for i, layer in enumerate(encoded))
            header = Header(spec, coded, codec, writer)
            return _sealed(header, encoded, seal), memoryview(b"".join(encoded))
    layers = (layer_bytes(spec, data, i) for i in range(spec.layout.num_layers))
    return _sealed(Header(spec, tuple(crcs), RAW, writer), layers, seal), data


def _sealed(header: Header, layers: Iterable[memoryview], seal: Seal | None) -> bytes:
    if seal is None:
        return encode_header(header)
    macs = tuple(seal.layer_mac(header.spec.key, i, layer) for i, layer in enumerate(layers))
    return encode_header(replace(header, seal=seal.digest, macs=macs), seal.header_mac)


def identify(medium: Medium, listed: Listed, owns: Callable[[Label], bool]) -> tuple[Stored, Codec]:
    """What an object is, and its codec: by what the listing shows, else by its header. `owns`:
    whether this store wrote it, on a medium with several writers. Raises OSError, or
    CorruptSegmentError when header, size and name do not agree."""
    nbytes, label = listed.nbytes, listed.label
    if label is None:
        with medium.open(listed.name) as source:
            label, nbytes = read_header(source, listed.name).label, source.nbytes
        key = label.spec.key
        if key.placement.hex() not in listed.name or key.digest.hex() not in listed.name:
            raise CorruptSegmentError(str(key), f"is in an object named {listed.name}")
    if medium.exclusive and label.writer != NOBODY:
        raise CorruptSegmentError(str(label.spec.key), f"has the writer {label.writer.hex()}")
    entry = Entry(label.spec, nbytes, listed.last_use)
    own = medium.exclusive or owns(label)
    return Stored(entry, listed.name, own, label.writer), label.codec


def read_header(source: Source, name: str, seal: Seal | None = None) -> Header:
    """Raises OSError, or CorruptSegmentError when header, name and size do not agree."""
    data = bytearray(PAGE)
    done = _read_all(source, memoryview(data), 0)
    size = int.from_bytes(data[12:16], "little")
    if PAGE < size <= min(source.nbytes, MAX_HEADER_NBYTES):
        data = bytearray(size)
        done = _read_all(source, memoryview(data), 0)
    header = decode_header(bytes(data[:done]), name)
    if source.nbytes != header.label.nbytes:
        raise CorruptSegmentError(name, f"{source.nbytes} bytes, expected {header.label.nbytes}")
    if seal is not None:
        seal.verify_header(header, bytes(data), name)
    elif header.seal != NOBODY:
        raise CorruptSegmentError(name, "has MACs of a key that is not known here")
    return header


def _read_all(source: Source, data: memoryview, offset: int) -> int:
    done = 0
    while done < data.nbytes and (n := source.read(data[done:], offset + done)):
        done += n
    return done
