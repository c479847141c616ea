"""The folders of segment files, with names that outlast a power cut.

That a folder is there does not say that its name is on the disk: whoever made it may have been
killed before the sync, or the sync failed. So only what this process has synced counts.
"""

import os
from pathlib import Path

from kvstore.tiers.files import Files, require_folder
from kvstore.tiers.segment_files import BELOW

_BELOW = (*sorted({name[0] for name in BELOW}), *BELOW)


class Folders:
    """Two levels below `root`. Thread-safe: at worst two threads sync the same folder."""

    def __init__(self, root: Path, files: Files) -> None:
        self.root = root
        self._files = files
        self._lasting = {root}
        self._unsynced = {root, *self._there(*_BELOW)}

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

    @property
    def settled(self) -> bool:
        return not self._unsynced

    def changed(self, folder: Path) -> None:
        """A name in it went: a power cut can bring it back until the folder is synced."""
        self._unsynced.add(folder)

    def sync(self, folder: Path) -> None:
        """All names in it, and those that went, last as they are now. Raises OSError."""
        self._unsynced.discard(folder)  # first: what changes meanwhile may miss the sync
        try:
            self._files.sync_folder(folder)
        except FileNotFoundError:
            raise
        except OSError:
            self._unsynced.add(folder)
            raise

    def settle(self) -> None:
        """Sync the folders in which names went since their last sync, and at first all: what a
        predecessor was killed before syncing is as good as stored to whoever finds it here. Raises
        the last OSError, after an attempt at each of them."""
        failure: OSError | None = None
        for folder in sorted(self._unsynced):
            try:
                self.sync(folder)
            except FileNotFoundError:  # it is gone itself, with all its names
                continue
            except OSError as error:
                failure = error
        if failure is not None:
            raise failure

    def _there(self, *names: str) -> list[Path]:
        return [folder for name in names if os.path.lexists(folder := self.root / name)]
