"""Segments in a folder or bucket of any file system pyarrow reaches: local, NFS, S3, GCS, HDFS.

    <base>/<xy>/<placement>-<digest>.segment    xy: first two hex digits of the digest
    <base>/tmp/<name>.<nonce>                   being written, where a file system can rename
    <base>/quarantine/<name>                    damaged objects, the newest few, for an operator

A name follows from the key, so one question tells whether an object is there. Where a rename is
atomic (local, NFS, HDFS) an object is written in `tmp` and moved; an object store shows an object
when its upload is complete. Local and NFS files are synced before they get their names, since
pyarrow does not do it; HDFS promises no more than a closed file. What is lost or torn all the same
fails the reader's checksums: a miss.
"""

import errno
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kvstore.tiers.bucket_url import connect
from kvstore.tiers.files import Files
from kvstore.tiers.medium import Listed, Medium, Source
from kvstore.types import SegmentKey, TierName

SUFFIX = ".segment"
MAX_ASIDE = 8
LEFTOVER_S = 3600.0
"""A file in `tmp` of this age has no writer any more."""


class Bucket(Medium):
    """A call can last as long as the file system hangs: pyarrow knows no deadline, but for S3 and
    GCS a bound of what one try takes."""

    tier: TierName = "remote"
    exclusive = False

    def __init__(self, url: str, timeout_s: float) -> None:
        """Connects when it is first used, except to HDFS. Raises ValueError for a URL that cannot
        work, OSError when the file system's library or name node is missing."""
        self._fs, base = connect(url, timeout_s)
        self._base = base.rstrip("/")
        if not self._base:
            raise ValueError("names no folder or bucket")
        self._local = self._fs.type_name == "local"
        self._renames = self._fs.type_name in ("local", "hdfs")
        self._aside_bytes = 0

    def write(self, key: SegmentKey, header: bytes, payload: memoryview) -> str:
        """A whole object that is there stays: its readers have its checksums, and another node's
        KV of the same tokens may differ in a late bit."""
        name = _name(key)
        try:
            with self.errors():
                info = self._info(name)
                if not info.is_file or info.size != len(header) + payload.nbytes:
                    self._put(name, header, payload)
        except FileNotFoundError as error:  # the place, not an object, is gone
            raise OSError(errno.ENXIO, error.strerror) from error
        return name

    def open(self, name: str) -> Source:
        with self.errors(name):
            return _BucketSource(self, name, self._fs.open_input_file(self._path(name)))

    def find(self, key: SegmentKey) -> str | None:
        name = _name(key)
        with self.errors():
            return name if self._info(name).is_file else None

    def list(self) -> Iterator[Listed]:
        """Folder by folder, 256 at most. Removes what crashed writers left."""
        for folder in self._entries("", folders=True):
            if folder.base_name == "tmp":
                self._sweep()
            elif folder.base_name == "quarantine":
                self._trim_aside()
            elif len(folder.base_name) == 2:
                for entry in self._entries(folder.base_name):
                    if entry.base_name.endswith(SUFFIX):
                        name = f"{folder.base_name}/{entry.base_name}"
                        yield Listed(name, entry.size, _mtime(entry))

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError), self.errors(name):
            self._fs.delete_file(self._path(name))

    def set_aside(self, name: str) -> None:
        """Keeps the eight newest."""
        aside = f"quarantine/{name.rpartition('/')[2]}"
        try:
            with self.errors(name):
                self._make_folder("quarantine")
                self._fs.move(self._path(name), self._path(aside))
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            self.delete(name)
        self._trim_aside()

    @property
    def aside_bytes(self) -> int:
        """As of the last listing or object that was set aside here."""
        return self._aside_bytes

    def close(self) -> None:
        """The file system closes with the last of its open objects."""

    @contextmanager
    def errors(self, name: str = "") -> Iterator[None]:
        """Whatever pyarrow raises as OSError with a number and a text.

        FileNotFoundError when the object `name` turns out to be gone: of that, a bucket's failed
        read or copy and a stale handle of NFS say each something else.
        """
        from pyarrow import ArrowException

        try:
            yield
        except NotImplementedError as error:  # one of pyarrow's
            raise OSError(errno.ENOTSUP, str(error)) from error
        except (ArrowException, OSError) as error:
            if name and self._is_gone(name):
                raise FileNotFoundError(errno.ENOENT, f"{name} is gone") from error
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise OSError(errno.EIO, str(error)) from error

    def _is_gone(self, name: str) -> bool:
        with suppress(OSError), self.errors():
            return not self._info(name).is_file
        return False

    def _put(self, name: str, header: bytes, payload: memoryview) -> None:
        target = f"tmp/{name[3:]}.{secrets.token_hex(4)}" if self._renames else name
        try:
            self._make_folder("tmp")
            with self._fs.open_output_stream(self._path(target)) as stream:
                stream.write(header)
                stream.write(payload)
            if self._renames:
                self._publish(target, name)
        except BaseException:  # closing the stream may have published the half that it had
            with suppress(OSError):
                self.delete(target)
            raise

    def _publish(self, temporary: str, name: str) -> None:
        self._make_folder(name[:2])
        if self._local:
            _sync(self._path(temporary))
        self._fs.move(self._path(temporary), self._path(name))
        if self._local:
            Files().sync_folder(Path(self._path(name[:2])))

    def _make_folder(self, name: str) -> None:
        """Where there are folders; an object store has none."""
        if self._renames and self._info(name).type.name == "NotFound":
            self._fs.create_dir(self._path(name), recursive=True)
            if self._local:
                Files().sync_folder(Path(self._base))

    def _sweep(self) -> None:
        for entry in self._entries("tmp"):
            if time.time() - _mtime(entry) > LEFTOVER_S:
                self.delete(f"tmp/{entry.base_name}")

    def _trim_aside(self) -> None:
        aside = sorted(self._entries("quarantine"), key=_mtime, reverse=True)
        for entry in aside[MAX_ASIDE:]:
            self.delete(f"quarantine/{entry.base_name}")
        self._aside_bytes = sum(entry.size for entry in aside[:MAX_ASIDE])

    def _entries(self, folder: str, folders: bool = False) -> Iterator[Any]:
        """The files in a folder, or its folders."""
        from pyarrow.fs import FileSelector

        with self.errors():
            found = self._fs.get_file_info(FileSelector(self._path(folder), allow_not_found=True))
        return (entry for entry in found if entry.is_file != folders)

    def _info(self, name: str) -> Any:
        return self._fs.get_file_info(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}".rstrip("/")


class _BucketSource(Source):
    """For one thread: a read moves the file's position."""

    def __init__(self, bucket: Bucket, name: str, file: Any) -> None:
        self._bucket, self._name, self._file = bucket, name, file
        self.nbytes = file.size()

    def read(self, into: memoryview, offset: int) -> int:
        if offset >= self.nbytes:  # which a bucket refuses
            return 0
        with self._bucket.errors(self._name):
            self._file.seek(offset)
            return int(self._file.readinto(into))

    def close(self) -> None:
        self._file.close()


def _name(key: SegmentKey) -> str:
    return f"{key.digest.hex()[:2]}/{key}{SUFFIX}"


def _mtime(entry: Any) -> float:
    """0 where the file system knows none."""
    return float(entry.mtime_ns or 0) / 1e9


def _sync(path: str) -> None:
    files = Files()
    fd = files.open(Path(path))
    try:
        files.sync(fd)
    finally:
        os.close(fd)
