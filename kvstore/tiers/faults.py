"""Disks that fail on purpose, from the configuration: for tests, never for service.

A fault is a line such as `read delay 0.05`, `read rate 5e7`, `write enospc`,
`read flip share 0.01`, `rename crash at 3`: operation, kind, the kind's value where it has one, and
when it strikes: always, for a share of the operations, or at the n-th one alone.
"""

import errno
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

from kvstore.tiers.files import Files

Operation = Literal["open", "create", "read", "write", "sync", "rename", "unlink"]
Kind = Literal["delay", "rate", "hang", "eio", "enospc", "erofs", "short", "flip", "crash"]
_ERRORS: dict[Kind, int] = {"eio": errno.EIO, "enospc": errno.ENOSPC, "erofs": errno.EROFS}
_DATA_KINDS: dict[Operation, tuple[Kind, ...]] = {
    "read": ("short", "flip", "rate"),
    "write": ("short", "rate"),
}
_WITH_VALUE = ("delay", "rate")
_HANG_S = 3600.0


@dataclass(frozen=True, slots=True)
class Fault:
    operation: Operation
    kind: Kind
    value: float = 0.0
    """Seconds of a delay; bytes a second of a disk, over all that is read or written at a time."""
    share: float = 1.0
    at: int = 0
    """Strike at this operation alone, counted from 1; 0: by the share."""

    @classmethod
    def parse(cls, line: str) -> Self:
        """Raises ValueError that names the line and what is allowed."""
        words = line.split()
        try:
            operation, kind, rest = words[0], words[1], words[2:]
            if operation not in get_args(Operation) or kind not in get_args(Kind):
                raise ValueError
            value = float(rest.pop(0)) if kind in _WITH_VALUE else 0.0
            if value <= 0 and kind == "rate":
                raise ValueError
            when = {"share": 1.0, "at": 0.0}
            if rest:
                when[rest[0]] = float(rest[1])
            if len(rest) > 2 or set(when) != {"share", "at"}:
                raise ValueError
            fault = cls(operation, kind, value, when["share"], int(when["at"]))  # type: ignore[arg-type]  # checked above
        except (ValueError, IndexError):
            raise ValueError(
                f"{line!r} is no fault: OPERATION ({', '.join(get_args(Operation))}) KIND"
                f" ({', '.join(get_args(Kind))}; delay SECONDS, rate BYTES_PER_S)"
                " [share P | at N]"
            ) from None
        if kind in ("short", "flip", "rate") and kind not in _DATA_KINDS.get(fault.operation, ()):
            raise ValueError(f"{line!r} is no fault: {operation} cannot {kind}")
        return fault


class FaultyFiles(Files):
    """Real files behind faults. The order of chance is fixed, so that a run can be repeated."""

    def __init__(self, faults: Sequence[Fault], seed: int = 0) -> None:
        self._faults = tuple(faults)
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._counts: Counter[Operation] = Counter()
        self._healed = threading.Event()
        self._free_at: dict[Operation, float] = {}

    def fail_with(self, faults: Sequence[Fault]) -> None:
        """From now on these faults and no others; what hangs already still does."""
        self._healed.clear()
        self._faults = tuple(faults)

    def heal(self) -> None:
        """No more faults; what hangs goes on."""
        self._faults = ()
        self._healed.set()

    def open(self, path: Path | str) -> int:
        self._strike("open")
        return super().open(path)

    def create(self, path: Path) -> int:
        self._strike("create")
        return super().create(path)

    def append(self, path: Path) -> int:
        self._strike("create")
        return super().append(path)

    def read(self, fd: int, into: memoryview, offset: int) -> int:
        kinds = self._strike("read")
        if "short" in kinds:
            return super().read(fd, into[: into.nbytes // 2], offset) if into.nbytes > 1 else 0
        done = super().read(fd, into, offset)
        self._take_time("read", done)
        if "flip" in kinds and done:
            into[self._random.randrange(done)] ^= 1 << self._random.randrange(8)
        return done

    def write(self, fd: int, data: memoryview) -> int:
        if "short" in self._strike("write") and data.nbytes > 1:
            data = data[: data.nbytes // 2]
        done = super().write(fd, data)
        self._take_time("write", done)
        return done

    def sync(self, fd: int) -> None:
        self._strike("sync")
        super().sync(fd)

    def rename(self, path: Path, to: Path) -> None:
        self._strike("rename")
        super().rename(path, to)

    def unlink(self, path: Path) -> None:
        self._strike("unlink")
        super().unlink(path)

    def _strike(self, operation: Operation) -> set[Kind]:
        """Wait, fail or die as the faults have it; the kinds that spoil the data."""
        with self._lock:
            self._counts[operation] += 1
            number = self._counts[operation]
            struck = [f for f in self._faults if f.operation == operation and self._hits(f, number)]
        for fault in struck:
            if fault.kind == "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault.kind == "delay":
                time.sleep(fault.value)
            if fault.kind == "hang":
                self._healed.wait(_HANG_S)
            if code := _ERRORS.get(fault.kind):
                raise OSError(code, os.strerror(code))
        return {fault.kind for fault in struck}

    def _take_time(self, operation: Operation, nbytes: int) -> None:
        """As long as a disk of the configured rate would, one operation after the other."""
        for fault in self._faults:
            if (fault.operation, fault.kind) == (operation, "rate"):
                with self._lock:
                    now = time.monotonic()
                    free_at = max(now, self._free_at.get(operation, now)) + nbytes / fault.value
                    self._free_at[operation] = free_at
                time.sleep(max(0.0, free_at - time.monotonic()))

    def _hits(self, fault: Fault, number: int) -> bool:
        return number == fault.at if fault.at else self._random.random() < fault.share
