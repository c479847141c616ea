"""Where snapshots live: a local folder, or any `pyarrow.fs` URI with a local cache in front.

Both keep one promise: what is published is complete. A local file or folder is written beside the
others, synced and renamed. An object store shows an object when its upload ends; the pointer that
makes a version current is written last in either case.
"""

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from crc32c import crc32c

from actors.errors import UnavailableError

STAGING = ".staging"
MAX_READ_BYTES = 256 * 2**20
"""Of a file that is read whole: a manifest of a large corpus has some MiB."""
_STAGED = re.compile(r"[0-9a-f]{32}")
_CHUNK_BYTES = 8 * 2**20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What a manifest says of one file."""

    nbytes: int
    crc32c: int


class Storage(Protocol):
    """Paths are relative to the root, with slashes. UnavailableError when the medium fails."""

    def read(self, path: str) -> bytes | None:
        """The file's bytes, None when there is none. UnavailableError for one of more than
        `MAX_READ_BYTES`, before memory is taken for it."""
        ...

    def names(self, folder: str) -> list[str]:
        """What a folder holds, sorted; nothing when there is no such folder."""
        ...

    def publish(self, path: str, data: bytes) -> None:
        """Write a file in one step, in place of an older one."""
        ...

    def staging(self) -> Path:
        """A new, empty local folder to build a part in."""
        ...

    def publish_folder(self, staged: Path, folder: str) -> None:
        """Publish a staged folder's files under a name never used before."""
        ...

    def open_folder(self, folder: str, files: Mapping[str, FileEntry]) -> Path | None:
        """A local folder that holds these files with these checksums; None when it is gone."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file or folder; nothing happens when it is gone."""
        ...

    def clean(self) -> None:
        """Remove what a writer left that crashed. For the one writer, before it begins."""
        ...


class LocalStorage:
    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> bytes | None:
        with medium(self.root):
            try:
                with (self.root / path).open("rb") as file:
                    require_size(path, os.fstat(file.fileno()).st_size)
                    return file.read(MAX_READ_BYTES)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def names(self, folder: str) -> list[str]:
        with medium(self.root):
            try:
                return sorted(os.listdir(self.root / folder))
            except FileNotFoundError:
                return []

    def publish(self, path: str, data: bytes) -> None:
        target = self.root / path
        with medium(self.root):
            temporary = self.staging() / "file"
            try:
                temporary.write_bytes(data)
                sync(temporary)
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(target)
                sync(target.parent)
            finally:
                shutil.rmtree(temporary.parent, ignore_errors=True)

    def staging(self) -> Path:
        folder = self.root / STAGING / uuid.uuid4().hex
        with medium(self.root):
            folder.mkdir(parents=True)
        return folder

    def publish_folder(self, staged: Path, folder: str) -> None:
        target = self.root / folder
        with medium(self.root):
            for file in staged.iterdir():
                sync(file)
            sync(staged)
            target.parent.mkdir(parents=True, exist_ok=True)
            staged.rename(target)
            sync(target.parent)

    def open_folder(self, folder: str, files: Mapping[str, FileEntry]) -> Path | None:
        path = self.root / folder
        with medium(self.root):
            if not path.is_dir():
                return None
            try:
                wrong = [name for name, entry in files.items() if measure(path / name) != entry]
            except FileNotFoundError:
                # A merge retired the part while it was read.
                return None
        if wrong:
            raise UnavailableError(
                f"{path / wrong[0]} does not match its checksum: restore it, or remove the "
                f"collection's folder {path.parent} and ingest again"
            )
        return path

    def remove(self, path: str) -> None:
        target = self.root / path
        with medium(self.root):
            if target.is_dir():
                shutil.rmtree(target, ignore_errors=True)
            else:
                target.unlink(missing_ok=True)

    def clean(self) -> None:
        """Staged folders alone, which have names that nobody else gives."""
        if (self.root / STAGING).is_symlink():
            return
        for name in self.names(STAGING):
            if _STAGED.fullmatch(name):
                self.remove(f"{STAGING}/{name}")


def require_size(path: str, nbytes: int) -> None:
    """Raises UnavailableError for a file that is too large to be read whole."""
    if nbytes > MAX_READ_BYTES:
        raise UnavailableError(
            f"{path} has {nbytes} bytes, at most {MAX_READ_BYTES} are read: restore it, or remove "
            "its folder and ingest again"
        )


def measure(path: Path) -> FileEntry:
    """Size and checksum of a file, read through the page cache without a copy."""
    nbytes = path.stat().st_size
    if not nbytes:
        return FileEntry(0, 0)
    mapped = np.memmap(path, np.uint8, "r")
    checksum = 0
    for start in range(0, nbytes, _CHUNK_BYTES):
        checksum = crc32c(mapped[start : start + _CHUNK_BYTES].data, checksum)
    return FileEntry(nbytes, checksum)


def sync(path: Path) -> None:
    """Bring a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def medium(where: object) -> Iterator[None]:
    """Turns what the medium raises into UnavailableError with the remedy."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"corpus {where}: {_remedy(error)}") from error


def _remedy(error: OSError) -> str:
    if error.errno in _FULL:
        return f"no room ({error.strerror}); free some, or move retrieval.corpus_uri"
    if error.errno in _READ_ONLY:
        return f"not writable ({error.strerror}); make it so, or move retrieval.corpus_uri"
    return f"{error}; check retrieval.corpus_uri"
