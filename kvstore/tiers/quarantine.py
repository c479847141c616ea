"""Damaged files, kept aside for whoever looks into the disk: a few, and never many bytes."""

import logging
import os
import threading
from pathlib import Path

from kvstore.tiers.files import Files
from kvstore.tiers.segment_files import own_files

logger = logging.getLogger(__name__)

_MAX_FILES = 8


class Quarantine:
    """The newest segment files, at most eight and `max_bytes`. What else somebody keeps here is
    neither counted nor touched. Thread-safe."""

    def __init__(self, folder: Path, max_bytes: int, files: Files) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._files = files
        self._lock = threading.Lock()
        self.used_bytes = 0
        """Of what was found by the first `trim`, and came since."""

    def trim(self) -> None:
        """As it is found: what is more than may be kept goes."""
        with self._lock:
            self._trim()

    def take(self, path: Path) -> None:
        """Move a file here. Raises OSError; one that is gone already is no error."""
        with self._lock:
            try:
                self._files.rename(path, self._folder / path.name)
            except FileNotFoundError:
                if not os.path.lexists(path):
                    return
                self._files.make_folder(self._folder)  # which somebody removed
                self._files.rename(path, self._folder / path.name)
            self._trim()

    def delete(self, path: Path) -> None:
        """For good, after a power cut too. Raises OSError."""
        with self._lock:
            self._files.unlink(path)
            self._files.sync_folder(self._folder)
            self._trim()

    def _trim(self) -> None:
        found = sorted(own_files(str(self._folder)), key=lambda it: it[1].st_mtime, reverse=True)
        kept = 0
        for rank, (name, facts) in enumerate(found):
            surplus = rank >= _MAX_FILES or kept + facts.st_size > self._max_bytes
            if not surplus or not self._unlink(name):
                kept += facts.st_size
        self.used_bytes = kept

    def _unlink(self, name: str) -> bool:
        """Whether it is gone; what the disk does not let go of is counted and tried again."""
        try:
            self._files.unlink(self._folder / name)
        except OSError as error:
            logger.warning("%s/%s cannot be removed: %s", self._folder, name, error.strerror)
            return False
        return True
