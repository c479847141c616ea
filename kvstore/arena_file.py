"""The arena's file: made, locked, and allocated in full once there is room.

A file keeps its memory after its owner's death: until it is unlinked, and then until the last
process unmaps it. Clients unmap it when their last lease has ended (`kvstore/mapping.py`). So a
store that starts again where two arenas do not fit unlinks what its predecessor left, and waits
for the readers, as long as there are any.
"""

import errno
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from kvstore.errors import StoreConfigError
from kvstore.locks import TOKEN, OwnedFile, is_own_file, sweep

logger = logging.getLogger(__name__)

PREFIX = "hyperrag-store-"
NODE_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_FILE_NAME = re.compile(f"{PREFIX}{NODE_NAME.pattern}-{TOKEN.pattern}")
WAIT_S = 30.0
"""For memory of dead owners: longer than most requests read, shorter than a shard's start may
take."""
_RETRY_S = 0.1
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DELETED = " (deleted)"  # what the kernel writes behind the name of an unlinked file


def sweep_arenas(folder: Path) -> int:
    """Unlink this user's arenas whose owners are gone, which hold memory for nobody; how many."""
    return sweep(folder, _FILE_NAME)


def allocated_file(folder: Path, prefix: str, nbytes: int, wait_s: float) -> OwnedFile:
    """A new file of this node, whose files begin with `prefix`. Raises StoreConfigError."""
    sweep_arenas(folder)
    try:
        file = OwnedFile(folder, prefix)
    except OSError as error:
        raise StoreConfigError(
            f"store.dram_dir is {folder}, where no file can be made ({error}): "
            f"name a memory file system such as /dev/shm"
        ) from error
    try:
        _allocate(file, nbytes, wait_s, prefix)
    except BaseException:
        file.close()
        raise
    return file


def _allocate(file: OwnedFile, nbytes: int, wait_s: float, prefix: str) -> None:
    folder, give_up, waits = file.path.parent, time.monotonic() + wait_s, False
    error = _try_allocate(file.fd, nbytes)
    while error is not None:
        keepers = _keepers(file, prefix)
        is_last = not keepers or time.monotonic() >= give_up
        if not is_last:
            if not waits:
                logger.warning("the arena waits up to %g s for memory: %s", wait_s, keepers)
            waits = True
            time.sleep(_RETRY_S)
            sweep_arenas(folder)  # the predecessor may have died since
        error = _try_allocate(file.fd, nbytes)  # with all that was given back before the look
        if error is not None and is_last:
            raise _no_room(folder, nbytes, keepers) from error


def _try_allocate(fd: int, nbytes: int) -> OSError | None:
    try:
        os.posix_fallocate(fd, 0, nbytes)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        return error
    return None


def _no_room(folder: Path, nbytes: int, keepers: list[str]) -> StoreConfigError:
    stat = os.statvfs(folder)
    kept = f", and memory of former arenas is kept: {', '.join(keepers)}" if keepers else ""
    return StoreConfigError(
        f"store.dram_bytes is {nbytes}, but {folder} has {stat.f_bavail * stat.f_frsize} bytes "
        f"free{kept}: lower store.dram_bytes, point store.dram_dir at a larger memory file system, "
        f"or enlarge this one (containers: --shm-size)"
    )


def _keepers(file: OwnedFile, prefix: str) -> list[str]:
    """Why memory of this node's former arenas may come back: who has not let go of it yet."""
    others = [p for p in file.path.parent.glob(prefix + "*") if p != file.path and _is_own(p)]
    device = os.fstat(file.fd).st_dev
    shown = f"{os.major(device):02x}:{os.minor(device):02x}"
    mapping = [pid for pid in _processes() if _maps_unlinked(pid, shown)]
    return [f"{path} has an owner" for path in others] + [
        f"process {pid} maps one that is unlinked" for pid in mapping
    ]


def _is_own(path: Path) -> bool:
    """Whether it is an arena of this user, as far as name and owner say."""
    with suppress(FileNotFoundError):
        return bool(_FILE_NAME.fullmatch(path.name)) and is_own_file(os.lstat(path))
    return False


def _processes() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").glob("[0-9]*"))


def _maps_unlinked(pid: int, device: str) -> bool:
    """Whether the process maps an unlinked arena of this device; no, where it is another user's,
    who cannot map one of ours."""
    with suppress(OSError):  # it has ended, or is not ours to look at
        lines = Path(f"/proc/{pid}/maps").read_text("utf-8", "replace").splitlines()
        return any(_is_unlinked_arena(line, device) for line in lines if PREFIX in line)
    return False


def _is_unlinked_arena(line: str, device: str) -> bool:
    fields = line.split(maxsplit=5)  # addresses, rights, offset, device, inode, path
    return fields[3] == device and fields[5].endswith(_DELETED)
