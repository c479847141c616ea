"""Which store this is, for as long as it lives: what its objects on a shared medium carry.

Two stores may share a bucket and each know nothing of the other, so an owner of keys is no owner of
objects: a store evicts what carries its own identity, and nothing else.

A store with an SSD keeps a random identity in a file of its folder, where it lasts as long as the
segments beside it. One without an SSD has none that could be kept: its identity is a digest of the
machine's and the node's names and of the arena's folder. Where a restart changes those, what the
former store wrote stays until a lifecycle of the bucket takes it.
"""

import errno
import logging
import os
import re
import secrets
import socket
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from kvstore.config import StoreConfig
from kvstore.tiers.store_folder import MARK

logger = logging.getLogger(__name__)

FILE = "WRITER"
_NBYTES = 8
_FORM = re.compile(rb"[0-9a-f]{16}\n")


def identity(config: StoreConfig, node: str) -> bytes:
    """8 bytes. The folder is there, and owned by this process."""
    if not config.ssd_dir:
        return _derived(node, config.dram_dir)
    folder = Path(config.ssd_dir).expanduser()
    try:
        return _read(folder / FILE) or _make(folder)
    except OSError as error:
        text = "%s: %s: what is written to the remote tier now is nobody's after a restart"
        logger.warning(text, folder / FILE, error.strerror)
        return secrets.token_bytes(_NBYTES)


def _derived(node: str, dram_dir: str) -> bytes:
    names = "\0".join((socket.gethostname(), node, dram_dir))
    return blake2b(names.encode(), digest_size=_NBYTES, person=b"hyperrag-writer").digest()


def _read(path: Path) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        data = file.read(_NBYTES * 2 + 2)
    if _FORM.fullmatch(data):
        return bytes.fromhex(data.decode())
    logger.warning("%s is damaged: what this store wrote to its remote tier is nobody's now", path)
    return None


def _make(folder: Path) -> bytes:
    """Written, synced and renamed, so that it is never read in part."""
    if not (folder / MARK).exists():  # which would be refused with this file alone in it
        raise FileNotFoundError(errno.ENOENT, "the folder could not be marked")
    made, temporary = secrets.token_bytes(_NBYTES), folder / f"{FILE}.new"
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(f"{made.hex()}\n".encode())
        file.flush()
        os.fsync(fd)
    os.rename(temporary, folder / FILE)
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)
    return made
