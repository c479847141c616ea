"""The folders of segment files, with names that outlast a power cut.

That a folder is there does not say that its name is on the disk: whoever made it may have been
killed before the sync, or the sync failed. So only what this process has synced counts.
"""

import logging
from pathlib import Path

from kvstore.tiers.files import Files

logger = logging.getLogger(__name__)


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

    def recover(self) -> None:
        """All names that a predecessor left last from now on: what it was killed before syncing is
        as good as stored to whoever finds it here."""
        for folder in [self.root, *self.root.glob("?"), *self.root.glob("?/?")]:
            try:
                self._files.sync_folder(folder)
            except OSError as error:
                logger.warning("folder %s cannot be synced: %s", folder, error.strerror)
