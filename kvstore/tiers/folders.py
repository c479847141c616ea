"""The folders of segment files, with names that outlast a power cut.

That a folder is there does not say that its name is on the disk: whoever made it may have been
killed before the sync, or the sync failed. So only what this process has synced counts.
"""

import logging
import os
from pathlib import Path

from kvstore.tiers.files import Files, require_folder
from kvstore.tiers.segment_files import BELOW

logger = logging.getLogger(__name__)

_BELOW = (*sorted({name[0] for name in BELOW}), *BELOW)


class Folders:
    """Two levels below `root`. Thread-safe: at worst two threads sync the same folder."""

    def __init__(self, root: Path, files: Files) -> None:
        self.root = root
        self._files = files
        self._lasting = {root}

    def make(self, folder: Path) -> None:
        """It is there and lasts, with all above it up to the root. Raises OSError."""
        if folder not in self._lasting:
            self.make(folder.parent)
            self._files.make_folder(folder)
            self._files.sync_folder(folder.parent)
            self._lasting.add(folder)

    def forget(self) -> None:
        """Some of them were removed: all are made, and synced, anew."""
        self._lasting = {self.root}

    def require_real(self) -> None:
        """Raises NotADirectoryError for one that is a link or anything else: what is written there
        would be elsewhere."""
        for folder in self._there("tmp", "quarantine", *_BELOW):
            require_folder(folder)

    def recover(self) -> None:
        """All names that a predecessor left last from now on: what it was killed before syncing is
        as good as stored to whoever finds it here."""
        for folder in [self.root, *self._there(*_BELOW)]:
            try:
                self._files.sync_folder(folder)
            except OSError as error:
                logger.warning("folder %s cannot be synced: %s", folder, error.strerror)

    def _there(self, *names: str) -> list[Path]:
        return [folder for name in names if os.path.lexists(folder := self.root / name)]
