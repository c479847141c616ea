"""The contract of a place: where a bucket's objects are, named by paths relative to one base."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from kvstore.tiers.medium import Source


@dataclass(frozen=True, slots=True)
class Found:
    """A file or object as a listing shows it."""

    path: str
    nbytes: int
    mtime: float
    """Seconds since the epoch; 0 where the place knows none."""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class Place(ABC):
    """Thread-safe. What fails raises OSError; FileNotFoundError says that a file is gone. Folders
    are made when something is written into them."""

    renames: bool
    """Whether `move` replaces a name in one step: then a file is written under another name. If
    not, an object shows when all of it has been written."""

    @abstractmethod
    def identity(self) -> object:
        """Which base it is: another value when another one has its name. None: there is none."""

    @abstractmethod
    def write(self, path: str, parts: Sequence[bytes | memoryview]) -> None:
        """A new file. Where files are renamed its name need not last, and what fails may leave a
        part."""

    @abstractmethod
    def mark(self, name: str, text: bytes) -> None:
        """A small file in the base, whose name lasts; one that is there stays."""

    @abstractmethod
    def open(self, path: str) -> Source: ...

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether a file of this path is there."""

    @abstractmethod
    def files(self, folder: str, with_folders: bool = False) -> list[Found]:
        """Files in a folder, or also in the folders in it; none in one that is not there."""

    @abstractmethod
    def folders(self) -> list[str]:
        """Names of the folders in the base."""

    @abstractmethod
    def is_empty(self) -> bool:
        """Whether nothing is in the base, or there is none yet."""

    @abstractmethod
    def move(self, path: str, to: str) -> None:
        """The new name lasts. Raises OSError (ENOTSUP) where files cannot be moved."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """One that is gone already is no error."""
