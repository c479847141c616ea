"""The contract of a medium: where the objects of a slow tier are (a folder, a bucket, a server).

A tier keeps the books, a medium keeps the bytes. An object is one segment in the form of
`kvstore/codec.py`, header first, and has a name that the medium gives it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kvstore.codec import Label
from kvstore.compression import Codec
from kvstore.tiers.closable import Closable
from kvstore.types import SegmentKey, TierName


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as a listing shows it."""

    name: str
    nbytes: int
    last_use: float
    """Seconds since the epoch, as far as the medium knows."""
    label: Label | None = None
    """Where the listing shows it; else it is in the object's header. Nobody has verified it."""


@dataclass(frozen=True, slots=True)
class Written:
    name: str
    is_new: bool
    """Not one of this key that was there already."""


def preferred(found: Iterable[Listed], codec: Codec) -> Listed | None:
    """The first that a store of this codec may serve, else any: it is known to be there."""
    first = None
    for listed in found:
        if listed.label is not None and codec.accepts(listed.label.codec):
            return listed
        first = first or listed
    return first


class Source(Closable):
    """An open object. It stays readable when it is deleted meanwhile, or raises
    FileNotFoundError."""

    nbytes: int

    @abstractmethod
    def read(self, into: memoryview, offset: int) -> int:
        """Bytes that were read; fewer than asked for are no error, 0 is the end."""


class Medium(ABC):
    """Thread-safe. What fails raises OSError; FileNotFoundError says that an object is gone."""

    tier: TierName
    exclusive: bool
    """Whether nobody else writes here: then what was listed, and written since, is all there is."""

    def takes(self, label: Label) -> bool:
        """Whether there can be such an object here."""
        return True

    @abstractmethod
    def write(self, key: SegmentKey, header: bytes, payload: memoryview) -> Written:
        """The object's name. It is there whole and to stay on return, or not at all. On a shared
        medium one of this key, in a codec that this store may serve, stays as it is: its readers
        have its checksums."""

    @abstractmethod
    def open(self, name: str) -> Source: ...

    @abstractmethod
    def find(self, key: SegmentKey) -> Listed | None:
        """An object of this key, if there is one: for what no listing has shown yet. Where stores
        of several codecs write, one that this store may serve before any other."""

    @abstractmethod
    def list(self) -> Iterator[Listed]:
        """Every object, in any order."""

    def tend(self) -> None:  # noqa: B027  # most media have nothing to do
        """Make again what a restart needs, if somebody removed it: now and then."""

    def settle(self) -> None:  # noqa: B027  # most media have nothing to do
        """Make names last as they are now: what a predecessor left, before it is relied on, and
        what was deleted for good."""

    @property
    def settled(self) -> bool:
        """Whether no power cut can bring back what was deleted."""
        return True

    def strays(self) -> Iterator[str]:
        """Names of what is there and no object: a writer's that is gone, a stranger's."""
        return iter(())

    @abstractmethod
    def delete(self, name: str) -> None:
        """One that is gone already is no error. On a shared medium a name is one writer's: another
        store's object of the same key stays."""

    @abstractmethod
    def set_aside(self, name: str) -> None:
        """Out of the way, for an operator to look at where the medium can keep it; else deleted."""

    def aside(self) -> Iterator[Listed]:
        """What was set aside and is kept. `delete_aside` ends that, for good."""
        return iter(())

    def delete_aside(self, name: str) -> None:  # noqa: B027  # most media keep nothing
        """One that is gone already is no error."""

    @property
    @abstractmethod
    def aside_bytes(self) -> int:
        """What was set aside still takes."""

    def free_bytes(self) -> int | None:
        """What others leave free there; None where nobody can say."""
        return None

    @abstractmethod
    def close(self) -> None: ...
