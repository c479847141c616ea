"""One segment file on a disk: written whole or not at all, read layer by layer."""

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kvstore.checksum import verify_layer
from kvstore.codec import (
    MAX_HEADER_NBYTES,
    Header,
    decode_header,
    encode_header,
    file_nbytes,
    header_nbytes,
)
from kvstore.errors import CorruptSegmentError, TierUnavailableError
from kvstore.tiers.base import Entry, Reader
from kvstore.tiers.files import Files
from kvstore.tiers.folders import Folders
from kvstore.types import SegmentKey, SegmentSpec

SUFFIX = ".segment"


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A file of the folder, by which it is named until its bytes are gone."""

    path: Path
    entry: Entry


class SegmentReader(Reader):
    def __init__(self, files: Files, path: Path, spec: SegmentSpec) -> None:
        """Raises OSError, or CorruptSegmentError when the file is not this segment's."""
        self._files = files
        self._fd = files.open(path)
        try:
            header = _read_header(files, self._fd, path)
            if header.spec != spec:
                raise CorruptSegmentError(str(spec.key), f"{path.name} holds {header.spec.key}")
        except BaseException:
            os.close(self._fd)
            raise
        super().__init__(header.spec, header.crcs)

    def layer(self, index: int, into: memoryview | None = None) -> memoryview:
        size = self.spec.layout.layer_nbytes
        data = memoryview(bytearray(size)) if into is None else into
        offset = header_nbytes(self.spec.layout.num_layers) + index * size
        try:
            done = _read_all(self._files, self._fd, data, offset)
        except OSError as error:
            raise TierUnavailableError("ssd", f"{self.spec.key}: {error.strerror}") from error
        if done != size:
            raise CorruptSegmentError(str(self.spec.key), f"layer {index} ends after {done} bytes")
        verify_layer(self.spec.key, index, data, self.crcs[index])
        return data

    def close(self) -> None:
        os.close(self._fd)


def validated(files: Files, path: Path) -> SegmentFile:
    """A file whose name, header and size agree; its layers are verified when they are read."""
    fd = files.open(path)
    try:
        header, stat = _read_header(files, fd, path), os.fstat(fd)
    finally:
        os.close(fd)
    if path.name.partition(".")[0] != str(header.spec.key):
        raise CorruptSegmentError(str(header.spec.key), f"is in a file named {path.name}")
    return SegmentFile(path, Entry(header.spec, stat.st_size, stat.st_mtime))


def write_file(
    files: Files, folders: Folders, spec: SegmentSpec, data: memoryview, crcs: tuple[int, ...]
) -> Path:
    """Write, sync, rename, sync the name. Raises OSError and leaves nothing behind then."""
    header = encode_header(Header(spec, crcs))
    name = f"{spec.key}.{secrets.token_hex(4)}{SUFFIX}"
    temporary, path = folders.root / "tmp" / name, _path(folders.root, spec.key, name)
    fd = files.create(temporary)
    try:
        try:
            _write_all(files, fd, memoryview(header))
            _write_all(files, fd, data)
            files.sync(fd)
        finally:
            os.close(fd)
        folders.make(path.parent)
        files.rename(temporary, path)
        files.sync_folder(path.parent)
    except OSError:
        with suppress(OSError):  # a disk that fails keeps what the next start removes
            files.unlink(temporary)
            files.unlink(path)
        raise
    return path


def _path(folder: Path, key: SegmentKey, name: str) -> Path:
    digits = key.digest.hex()
    return folder / digits[0] / digits[1] / name


def _read_header(files: Files, fd: int, path: Path) -> Header:
    data = bytearray(MAX_HEADER_NBYTES)
    done = _read_all(files, fd, memoryview(data), 0)
    header = decode_header(bytes(data[:done]), path.name)
    if (size := os.fstat(fd).st_size) != file_nbytes(header.spec):
        raise CorruptSegmentError(path.name, f"{size} bytes, expected {file_nbytes(header.spec)}")
    return header


def _read_all(files: Files, fd: int, data: memoryview, offset: int) -> int:
    done = 0
    while done < data.nbytes and (n := files.read(fd, data[done:], offset + done)):
        done += n
    return done


def _write_all(files: Files, fd: int, data: memoryview) -> None:
    while data.nbytes:
        data = data[files.write(fd, data) :]
