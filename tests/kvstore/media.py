"""Real segments as the objects of a medium, and a clock for what waits on one."""

from kvstore.codec import NOBODY, Header, encode_header
from kvstore.tiers.medium import Medium, Source
from kvstore.types import SegmentSpec
from tests.kvstore.segments import crcs_of, payload


def header_of(spec: SegmentSpec, writer: bytes = NOBODY) -> bytes:
    return encode_header(Header(spec, crcs_of(spec), writer=writer))


def object_of(spec: SegmentSpec) -> bytes:
    """The whole object of a segment."""
    return header_of(spec) + payload(spec)


def write(medium: Medium, spec: SegmentSpec, writer: bytes = NOBODY) -> str:
    return medium.write(spec.key, header_of(spec, writer), memoryview(payload(spec))).name


def read_all(source: Source, nbytes: int, offset: int = 0) -> bytes:
    """`nbytes` from `offset`, fewer at the end."""
    data = memoryview(bytearray(nbytes))
    done = 0
    while done < nbytes and (n := source.read(data[done:], offset + done)):
        done += n
    return bytes(data[:done])


def read_object(medium: Medium, name: str) -> bytes:
    with medium.open(name) as source:
        return read_all(source, source.nbytes)


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now
