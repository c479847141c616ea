"""One writer per corpus folder. The lock ends with its process, however that ends."""

import fcntl
import os
import time
from pathlib import Path

from actors.errors import UnavailableError
from actors.retrieval.storage import medium
from kvstore.locks import open_lock_file

LOCK = "writer.lock"
_POLL_S = 0.05


class WriterLock:
    def __init__(self, root: Path, wait_s: float = 0.0) -> None:
        """UnavailableError, with the holder's process, when the lock is not free in `wait_s`."""
        self._path = root / LOCK
        with medium(root):
            root.mkdir(parents=True, exist_ok=True)
            self._descriptor = open_lock_file(self._path, 0o644)
            if not self._acquired(time.monotonic() + wait_s):
                holder = os.read(self._descriptor, 32).decode(errors="replace").strip()
                os.close(self._descriptor)
                raise UnavailableError(
                    f"another corpus writer (process {holder or 'unknown'}) holds {self._path}; "
                    "stop it, or give this one another retrieval.corpus_uri"
                )
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        os.close(self._descriptor)

    def _acquired(self, until: float) -> bool:
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() >= until:
                    return False
                time.sleep(_POLL_S)
