"""Damaged files, kept aside for whoever looks into the disk: a few, and never many bytes."""

import threading
from pathlib import Path

from kvstore.tiers.files import Files

_MAX_FILES = 8


class Quarantine:
    """The newest files, at most eight and `max_bytes`. Thread-safe."""

    def __init__(self, folder: Path, max_bytes: int, files: Files) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._files = files
        self._lock = threading.Lock()
        self.used_bytes = 0
        self._trim()

    def take(self, path: Path) -> None:
        """Move a file here. Raises OSError; one that is gone already is no error."""
        with self._lock:
            try:
                self._files.rename(path, self._folder / path.name)
            except FileNotFoundError:
                return
            self._trim()

    def _trim(self) -> None:
        files = sorted(self._folder.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)
        kept = 0
        for rank, path in enumerate(files):
            nbytes = path.stat().st_size
            if rank >= _MAX_FILES or kept + nbytes > self._max_bytes:
                self._files.unlink(path)
            else:
                kept += nbytes
        self.used_bytes = kept
