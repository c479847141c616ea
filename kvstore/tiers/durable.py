"""Small files of the store's own, beside the segments: read or replaced whole, or appended to."""

import errno
import os
from pathlib import Path

from kvstore.tiers.files import Files


def read_file(files: Files, path: Path, max_bytes: int) -> bytes | None:
    """None where there is no file. Raises OSError, EFBIG for one of more than `max_bytes`."""
    if not os.path.lexists(path):
        return None
    fd = files.open(path)
    try:
        if (nbytes := os.fstat(fd).st_size) > max_bytes:
            raise OSError(errno.EFBIG, f"{path} has {nbytes} bytes, at most {max_bytes} are ours")
        data, done = bytearray(nbytes), 0
        while done < nbytes and (n := files.read(fd, memoryview(data)[done:], done)):
            done += n
        return bytes(data[:done])
    finally:
        os.close(fd)


def replace_file(files: Files, path: Path, data: bytes) -> None:
    """The file has exactly this from now on, after a power cut too; or, where that fails with an
    OSError, what it had."""
    new = path.with_name(f"{path.name}.new")
    if os.path.lexists(new):  # of one that was cut short
        files.unlink(new)
    fd = files.create(new)
    try:
        _write_all(files, fd, data)
        files.sync(fd)
    finally:
        os.close(fd)
    files.rename(new, path)
    files.sync_folder(path.parent)


def append_file(files: Files, path: Path, data: bytes, mark: bytes) -> None:
    """The file that is there ends with this from now on, after a power cut too; `mark` comes behind
    it when that is so. Where it fails with an OSError, it may end with a part of both."""
    fd = files.append(path)
    try:
        _write_all(files, fd, data)
        files.sync(fd)
        _write_all(files, fd, mark)
    finally:
        os.close(fd)


def _write_all(files: Files, fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view.nbytes:
        view = view[files.write(fd, view) :]
