"""A tier of segment files as the crash tests use it: all that they know about its class is here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvstore.checksum import segment_crcs
from kvstore.tiers.files import Files
from kvstore.types import SegmentKey, SegmentSpec
from tests.kvstore.segments import ssd_tier

_CAPACITY_BYTES = 2**30


class OpenTier:
    """The tier of one folder, with everything that is there recovered."""

    def __init__(self, folder: Path, files: Files | None = None) -> None:
        self._tier = ssd_tier(folder, _CAPACITY_BYTES, files)

    def put(self, spec: SegmentSpec, payload: bytes) -> None:
        data = memoryview(payload)
        self._tier.put(spec, data, segment_crcs(spec, data))

    def remove(self, key: SegmentKey) -> None:
        self._tier.remove(key)

    def settle(self) -> None:
        self._tier.settle()

    def read(self, key: SegmentKey) -> bytes | None:
        """All layers, as the store reads them; None is a miss. Raises CorruptSegmentError."""
        reader = self._tier.open(key)
        if reader is None:
            return None
        with reader:
            return b"".join(reader.layer(i) for i in range(reader.spec.layout.num_layers))

    def specs(self) -> list[SegmentSpec]:
        entries = self._tier.keys()
        return [entry.spec for entry in entries]

    def check(self) -> list[str]:
        return self._tier.check()

    def close(self) -> None:
        self._tier.close()


@contextmanager
def opened(folder: Path) -> Iterator[OpenTier]:
    tier = OpenTier(folder)
    try:
        yield tier
    finally:
        tier.close()


def file_of(folder: Path, key: SegmentKey) -> Path:
    (path,) = folder.glob(f"?/?/{key}.*")
    return path
