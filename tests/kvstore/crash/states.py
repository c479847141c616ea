"""What a disk can hold after a power cut, from a log of file operations.

The model is POSIX at its weakest, as in ALICE ("All File Systems Are Not Created Equal", OSDI '14)
and CrashMonkey (OSDI '18): what no sync covers may be there, or not, or in part, in any order.

* The log is cut anywhere. Whatever finished before the cut and is covered by a sync that finished
  before it too is there; about the rest chance decides.
* Bytes of a file last once that file was synced. Others are torn into pieces of a sector or a
  page; each piece is there, a hole of zeros, or stale bytes of another file. The size is any
  between what was synced and what was written.
* A name (created, renamed, unlinked, a folder made) lasts once the folder it stands in was synced.
  Other changes of names are there in any subset. A sync of a file or a folder says nothing about
  its own name, so what is below a folder whose name was lost is lost.
* A rename is atomic: the old name goes only if the new one is there, perhaps both are. Whether the
  file's bytes came along is another matter: that takes a sync of the file.
* A process that is killed loses nothing: the kernel keeps what it was told, synced or not.

Not in the model: a disk that reports a sync that it did not do, and damage to what was at rest
(`damage.py`). The folder itself is taken to last, with its mark, `tmp` and `quarantine`.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from kvstore.tiers.store_folder import MARK
from tests.kvstore.crash.recording import (
    Create,
    Event,
    MakeFolder,
    Rename,
    Sync,
    SyncFolder,
    Unlink,
    Write,
)

LASTING_FOLDERS = frozenset({"tmp", "quarantine"})
_FOLDER = -1  # in the place of an inode
_SHARES = (0.0, 0.1, 0.5, 0.9, 1.0)
_GRAINS = (512, 4096)


@dataclass(frozen=True, slots=True)
class Image:
    """Folders and files, by names relative to the tier's folder."""

    folders: frozenset[str]
    files: dict[str, bytes]

    @classmethod
    def empty(cls) -> Self:
        return cls(LASTING_FOLDERS, {MARK: b""})

    def write_to(self, folder: Path) -> None:
        """As a new folder."""
        folder.mkdir()
        for name in sorted(self.folders):  # parents before what they hold
            (folder / name).mkdir()
        for name, data in self.files.items():
            (folder / name).write_bytes(data)


@dataclass(frozen=True, slots=True)
class Naming:
    """One change of one name: `inode` stands under it now, or nothing."""

    name: str
    inode: int | None
    at: int


def after_power_cut(base: Image, log: Sequence[Event], rng: random.Random) -> Image:
    """One of the states that the whole of `log`, begun on `base`, can leave behind."""
    names: dict[str, int] = dict.fromkeys(base.folders, _FOLDER)
    old = {-2 - i: data for i, data in enumerate(base.files.values())}
    names.update(zip(base.files, old, strict=True))
    for naming in _kept(_namings(names, log), log, rng):
        if naming.inode is None:
            names.pop(naming.name, None)
        else:
            names[naming.name] = naming.inode
    folders = {name for name, inode in names.items() if inode == _FOLDER}
    reached = {name for name in folders if _above(name) <= folders}
    files = {n: i for n, i in names.items() if i != _FOLDER and _above(n) <= reached}
    contents = old | _contents(set(files.values()) - set(old), log, rng)
    return Image(frozenset(reached), {name: contents[inode] for name, inode in files.items()})


def _above(name: str) -> set[str]:
    """The folders that a name stands below, without the root."""
    parts = name.split("/")[:-1]
    return {"/".join(parts[: i + 1]) for i in range(len(parts))}


def _namings(names: dict[str, int], log: Sequence[Event]) -> list[tuple[Naming, ...]]:
    """Changes of names in order; of a rename the new name, then the old one."""
    live, found = dict(names), list[tuple[Naming, ...]]()
    for at, event in enumerate(log):
        match event:
            case Create(name, inode):
                found.append((Naming(name, inode, at),))
            case MakeFolder(name):
                found.append((Naming(name, _FOLDER, at),))
            case Unlink(name):
                found.append((Naming(name, None, at),))
            case Rename(name, to):
                found.append((Naming(to, live[name], at), Naming(name, None, at)))
            case _:
                continue
        for naming in found[-1]:
            if naming.inode is None:
                live.pop(naming.name, None)
            else:
                live[naming.name] = naming.inode
    return found


def _kept(
    namings: Sequence[tuple[Naming, ...]], log: Sequence[Event], rng: random.Random
) -> list[Naming]:
    synced = {event.name: at for at, event in enumerate(log) if isinstance(event, SyncFolder)}
    share, kept = rng.choice(_SHARES), list[Naming]()

    def lasts(naming: Naming) -> bool:
        return synced.get(naming.name.rpartition("/")[0], -1) > naming.at

    for first, *second in namings:
        if lasts(first) or any(map(lasts, second)) or rng.random() < share:
            kept.append(first)
            kept += [other for other in second if lasts(other) or rng.random() < share]
    return kept


def _contents(inodes: set[int], log: Sequence[Event], rng: random.Random) -> dict[int, bytes]:
    share, grain = rng.choice(_SHARES), rng.choice(_GRAINS)
    writes: dict[int, list[Write]] = {inode: [] for inode in inodes}
    synced = dict.fromkeys(inodes, 0)  # how many of the writes
    stale = b"\xa5" * grain
    for event in log:
        match event:
            case Write(inode) if inode in inodes:
                writes[inode].append(event)
                stale = event.data[:grain]
            case Sync(inode) if inode in inodes:
                synced[inode] = len(writes[inode])
    return {
        inode: _torn(writes[inode], synced[inode], share, grain, stale, rng) for inode in inodes
    }


def _torn(
    writes: Sequence[Write], synced: int, share: float, grain: int, stale: bytes, rng: random.Random
) -> bytes:
    """The writes from the `synced`-th on in pieces, a share of which arrived."""
    data = bytearray()
    for write in writes[:synced]:
        data[write.offset :] = write.data
    least = len(data)
    for write in writes[synced:]:
        data += bytes(write.offset + len(write.data) - len(data))
        for start in range(0, len(write.data), grain):
            piece = write.data[start : start + grain]
            if rng.random() >= share:
                piece = rng.choice((bytes(len(piece)), stale[: len(piece)].ljust(len(piece))))
            data[write.offset + start : write.offset + start + len(piece)] = piece
    cut = len(data) if rng.random() < 0.5 else rng.randint(least, len(data))
    return bytes(data[:cut])
