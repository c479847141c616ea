"""A bucket or folder of a file system that pyarrow reaches: S3, GCS, HDFS."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from kvstore.tiers.medium import Source
from kvstore.tiers.place import Found, Place


class ArrowPlace(Place):
    """A call can last as long as the file system hangs: pyarrow knows no deadline, but for S3 and
    GCS a bound of what one try takes."""

    def __init__(self, fs: Any, base: str) -> None:
        """`base` is a path of `fs`, a `pyarrow.fs.FileSystem`."""
        self._fs, self._base = fs, base
        self.renames = fs.type_name in ("local", "hdfs")

    def identity(self) -> object:
        return self._base

    def write(self, path: str, parts: Sequence[bytes | memoryview]) -> None:
        with self._errors():
            self._make(path.rpartition("/")[0])
            with self._fs.open_output_stream(self._path(path)) as stream:
                for part in parts:
                    stream.write(part)

    def mark(self, name: str, text: bytes) -> None:
        self.write(name, [text])

    def open(self, path: str) -> Source:
        with self.errors(path):
            return _ArrowSource(self, path, self._fs.open_input_file(self._path(path)))

    def exists(self, path: str) -> bool:
        with self._errors():
            return bool(self._fs.get_file_info(self._path(path)).is_file)

    def files(self, folder: str, with_folders: bool = False) -> list[Found]:
        found = self._entries(folder, recursive=with_folders)
        return [
            Found(self._relative(entry.path), entry.size, float(entry.mtime_ns or 0) / 1e9)
            for entry in found
            if entry.is_file
        ]

    def folders(self) -> list[str]:
        return [entry.base_name for entry in self._entries("") if not entry.is_file]

    def is_empty(self) -> bool:
        return not self._entries("")

    def move(self, path: str, to: str) -> None:
        with self.errors(path):
            self._make(to.rpartition("/")[0])
            self._fs.move(self._path(path), self._path(to))

    def delete(self, path: str) -> None:
        with suppress(FileNotFoundError), self.errors(path):
            self._fs.delete_file(self._path(path))

    @contextmanager
    def errors(self, path: str) -> Iterator[None]:
        """FileNotFoundError when the object turns out to be gone: of that, a bucket's failed read
        or copy and a stale handle of NFS say each something else."""
        try:
            with self._errors():
                yield
        except OSError as error:
            if error.errno != errno.ENOTSUP and self._is_gone(path):
                raise FileNotFoundError(errno.ENOENT, f"{path} is gone") from error
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Whatever pyarrow raises as OSError with a number and a text."""
        from pyarrow import ArrowException

        try:
            yield
        except NotImplementedError as error:  # one of pyarrow's
            raise OSError(errno.ENOTSUP, str(error)) from error
        except (ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise OSError(errno.EIO, str(error)) from error

    def _is_gone(self, path: str) -> bool:
        with suppress(OSError):
            return not self.exists(path)
        return False

    def _make(self, folder: str) -> None:
        """Where there are folders; an object store has none."""
        if self.renames:
            self._fs.create_dir(self._path(folder), recursive=True)

    def _entries(self, folder: str, recursive: bool = False) -> list[Any]:
        from pyarrow.fs import FileSelector

        selector = FileSelector(self._path(folder), allow_not_found=True, recursive=recursive)
        with self._errors():
            return list(self._fs.get_file_info(selector))

    def _relative(self, path: str) -> str:
        return path[len(self._base) :].lstrip("/")

    def _path(self, path: str) -> str:
        return f"{self._base}/{path}".rstrip("/")


class _ArrowSource(Source):
    """For one thread: a read moves the file's position."""

    def __init__(self, place: ArrowPlace, path: str, file: Any) -> None:
        self._place, self._path, self._file = place, path, file
        self.nbytes = file.size()

    def read(self, into: memoryview, offset: int) -> int:
        if offset >= self.nbytes:  # which a bucket refuses
            return 0
        with self._place.errors(self._path):
            self._file.seek(offset)
            return int(self._file.readinto(into))

    def close(self) -> None:
        self._file.close()
