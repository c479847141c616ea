"""A disk that fails while the store runs, and is mended again."""

from kvstore.store import KVStore
from kvstore.tiers.faults import Fault, FaultyFiles
from kvstore.tiers.folder import Folder

FAULTY = ("read delay 0",)
"""For `StoreConfig.faults`: a disk that can be made to fail later."""
FAILURES: tuple[tuple[str, ...], ...] = (
    ("open eio",),
    ("read eio share 0.5",),
    ("read flip share 0.3",),
    ("read short share 0.5",),
    ("read delay 0.002",),
    ("create erofs",),
    ("write enospc",),
    ("write short share 0.5",),
    ("sync eio share 0.5",),
    ("rename eio",),
    ("unlink eio",),
    ("open eio share 0.3", "read eio share 0.3", "write eio share 0.3", "sync eio share 0.3"),
)
HANGS: tuple[tuple[str, ...], ...] = (
    ("open hang",),
    ("read hang",),
    ("write hang",),
    ("sync hang",),
    ("unlink hang",),
    ("rename hang",),
)


class Disk:
    """Of a running store whose configuration has faults."""

    def __init__(self, store: KVStore) -> None:
        medium = store._books.levels[0].tier._medium
        assert isinstance(medium, Folder)
        assert isinstance(medium._files, FaultyFiles), "the store runs without faults"
        self._files = medium._files
        self.fails = self.hangs = False
        """Now."""
        self.spoils = self.has_failed = False
        """At some time since the store's start: data that is read, anything."""

    def fail(self, lines: tuple[str, ...]) -> None:
        """What hangs now goes on first: nobody could tell it from what hangs from now on."""
        faults = [Fault.parse(line) for line in lines]
        self._files.heal()
        self.fails = self.has_failed = True
        self.hangs = any(fault.kind == "hang" for fault in faults)
        self.spoils |= any(fault.operation in ("open", "read") for fault in faults)
        self._files.fail_with(faults)

    def mend(self) -> None:
        self.fails = self.hangs = False
        self._files.heal()
