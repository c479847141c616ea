"""Which store this is, for as long as it lives: what its objects on a shared medium carry.

Two stores may share a bucket and each know nothing of the other, so an owner of keys is no owner of
objects: a store evicts what carries its own identity, and nothing else.

A store with an SSD keeps a random identity in a file of its folder, where it lasts as long as the
segments beside it:

    <ssd_dir>/WRITER      "<identity> <birth of the folder> <birth of this file>\n", in hex

It counts in that folder alone (`birth.py`): a folder that was copied, to another machine or on the
same one, draws an identity of its own, and what the former store wrote is another's. An image of a
whole volume cannot be told from the volume: leave the file out of one that several stores start
from.

A store without an SSD has no identity that could be kept: it is a digest of the machine's and the
node's names and of the arena's folder. Where a restart changes those, what the former store wrote
stays until a lifecycle of the bucket takes it.
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
from kvstore.tiers.birth import Birth
from kvstore.tiers.deadline import Deadline
from kvstore.tiers.store_folder import MARK

logger = logging.getLogger(__name__)

FILE = "WRITER"
_NBYTES = 8
_MAX_BYTES = 128
_FORM = re.compile(r"([0-9a-f]{16}) ([0-9a-f]+-[0-9a-f]+) ([0-9a-f]+-[0-9a-f]+)\n")
_WAIT_S = 5.0
"""So long a disk may take."""


def identity(config: StoreConfig, node: str) -> bytes:
    """8 bytes. The folder is there, and owned by this process."""
    if not config.ssd_dir:
        return _derived(node, config.dram_dir)
    folder = Path(config.ssd_dir).expanduser()
    try:
        return Deadline(_WAIT_S, threads=1).run(lambda: _kept(folder))
    except OSError as error:
        text = "%s: %s: what is written to the remote tier now is nobody's after a restart"
        logger.warning(text, folder / FILE, error.strerror)
        return secrets.token_bytes(_NBYTES)


def _kept(folder: Path) -> bytes:
    """In its file, made if it is missing. Raises OSError."""
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _read(folder, folder_fd) or _make(folder, folder_fd)
    finally:
        os.close(folder_fd)


def _derived(node: str, dram_dir: str) -> bytes:
    names = "\0".join((socket.gethostname(), node, dram_dir))
    return blake2b(names.encode(), digest_size=_NBYTES, person=b"hyperrag-writer").digest()


def _read(folder: Path, folder_fd: int) -> bytes | None:
    path, flags = folder / FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        found = _FORM.fullmatch(file.read(_MAX_BYTES).decode("latin-1"))
        births = Birth.of(folder_fd), Birth.of(fd)
    if found is None:
        text = "%s is damaged: what this store wrote to its remote tier is nobody's now"
        logger.warning(text, path)
        return None
    if not all(
        Birth.parse(text).may_be(birth)
        for text, birth in zip(found.groups()[1:], births, strict=True)
    ):
        text = "%s was copied here: what that store wrote to its remote tier is another's"
        logger.warning(text, path)
        return None
    return bytes.fromhex(found[1])


def _make(folder: Path, folder_fd: int) -> bytes:
    """Written, synced and renamed, so that it is never read in part."""
    if not (folder / MARK).exists():  # which would be refused with this file alone in it
        raise FileNotFoundError(errno.ENOENT, "the folder could not be marked")
    made, temporary = secrets.token_bytes(_NBYTES), folder / f"{FILE}.new"
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(f"{made.hex()} {Birth.of(folder_fd)} {Birth.of(fd)}\n".encode())
        file.flush()
        os.fsync(fd)
    os.rename(temporary, folder / FILE)
    os.fsync(folder_fd)
    return made
