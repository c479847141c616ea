"""The file operations of a segment's life, in one place: what a disk can fail at."""

import errno
import os
import stat
from pathlib import Path


class Files:
    """Each is one step on the disk; they raise OSError. Thread-safe."""

    def open(self, path: Path | str) -> int:
        """For reading. A link counts as no file, and a FIFO makes nobody wait."""
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise FileNotFoundError(errno.ENOENT, "is a link", str(path)) from error
            raise

    def create(self, path: Path) -> int:
        """For writing; the file must not be there yet."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def append(self, path: Path) -> int:
        """For writing at the end of a file that is there."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)

    def read(self, fd: int, into: memoryview, offset: int) -> int:
        """Bytes that were read; fewer than asked for are no error, 0 is the end."""
        return os.preadv(fd, [into], offset)

    def write(self, fd: int, data: memoryview) -> int:
        return os.write(fd, data)

    def sync(self, fd: int) -> None:
        os.fsync(fd)

    def sync_folder(self, path: Path) -> None:
        """Make the names in it last."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self.sync(fd)
        finally:
            os.close(fd)

    def make_folder(self, path: Path) -> None:
        """One that is there already is no error; a link to one, or somebody else's, is."""
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            require_folder(path)

    def rename(self, path: Path, to: Path) -> None:
        os.rename(path, to)

    def unlink(self, path: Path) -> None:
        """One that is gone already is no error."""
        path.unlink(missing_ok=True)


def require_folder(path: Path) -> None:
    """Raises NotADirectoryError unless it is a folder of this user, and no link to one."""
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise NotADirectoryError(errno.ENOTDIR, "is no folder of this user", str(path))
