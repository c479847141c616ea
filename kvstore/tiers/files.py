"""The file operations of a segment's life, in one place: what a disk can fail at."""

import os
from pathlib import Path


class Files:
    """Each is one step on the disk; they raise OSError. Thread-safe."""

    def open(self, path: Path | str) -> int:
        """For reading."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def create(self, path: Path) -> int:
        """For writing; the file must not be there yet."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def read(self, fd: int, into: memoryview, offset: int) -> int:
        """Bytes that were read; fewer than asked for are no error, 0 is the end."""
        return os.preadv(fd, [into], offset)

    def write(self, fd: int, data: memoryview) -> int:
        return os.write(fd, data)

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def sync_folder(self, path: Path) -> None:
        """Make the names in it last."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sync(fd)
        finally:
            os.close(fd)

    def make_folder(self, path: Path) -> None:
        """One that is there already is no error."""
        path.mkdir(exist_ok=True, mode=0o700)

    def rename(self, path: Path, to: Path) -> None:
        os.rename(path, to)

    def unlink(self, path: Path) -> None:
        """One that is gone already is no error."""
        path.unlink(missing_ok=True)
