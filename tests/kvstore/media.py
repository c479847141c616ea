"""Real segments as the objects of a medium, and a clock for what waits on one."""

from kvstore.codec import NOBODY, Header, encode_header
from kvstore.store import KVStore
from kvstore.tiers.base import Tier
from kvstore.tiers.faults import FaultyFiles
from kvstore.tiers.folder import Folder
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


def read_segment(tier: Tier, spec: SegmentSpec) -> bytes:
    """Every layer of it, as the tier gives it."""
    reader = tier.open(spec.key)
    assert reader is not None
    with reader:
        return b"".join(bytes(reader.layer(i)) for i in range(spec.layout.num_layers))


def disk_of(store: KVStore) -> FaultyFiles:
    """The SSD of a store whose configuration has faults."""
    medium = store._books.levels[0].tier._medium
    assert isinstance(medium, Folder) and isinstance(medium._files, FaultyFiles)
    return medium._files


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now
