"""A real store, the processes that use it, and the model of what may be seen of it."""

import os
import shutil
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path

from kvstore.errors import StoreUnavailableError
from kvstore.local import LocalStoreClient
from kvstore.store import KVStore
from kvstore.types import Acquired, Extent, SegmentKey, TicketId
from tests.kvstore.machine.disk import FAULTY, Disk
from tests.kvstore.machine.model import Claim, Held, Model, Violation
from tests.kvstore.machine.variants import Settings, variant_of
from tests.kvstore.segments import small_config
from tests.kvstore.waiting import eventually

NUM_PROCESSES = 3
PATIENCE_S = 60.0
"""For what must happen soon, on a machine that is busy with something else."""
_MAX_HELD = 6
_MAX_GHOSTS = 12


class Process(LocalStoreClient):
    """A process of the node, as the store sees one: a lock, maps, leases."""

    def __init__(self, store: KVStore, dram_dir: str) -> None:
        super().__init__(store, dram_dir)
        self.held: list[Held] = []

    def die(self) -> None:
        """As the kernel ends it: the lock is dropped, its file stays, nobody says anything."""
        os.close(self._holder._file.fd)
        self._holder._file.fd = -1
        if self._maps._watch is not None:  # its threads end with a process
            self._maps._watch.stop()

    def follow(self, store: KVStore) -> None:
        """The store has started again; leases of its former life are gone."""
        self._store = store


class World:
    def __init__(self, folder: Path, variant: int = 0) -> None:
        """`variant` chooses a configuration, any number does."""
        self._folder = folder
        self._lives = 0
        settings: Settings = {
            "dram_bytes": 2**17, "ssd_bytes": 2**17, "ssd_dir": str(folder / "ssd-0"),
            "write_queue": 8, "reap_interval_s": 0.01, "read_timeout_s": 0.2, "faults": FAULTY,
            "remove_timeout_s": 0.5,
        } | variant_of(variant, folder)  # fmt: skip
        self.config = small_config(folder, **settings)
        self.model = Model()
        self.seen: Counter[str] = Counter()
        """Events of all the store's lives that have ended: a walk without them shows little."""
        self.dead: list[Held] = []
        """Leases of processes that died since the store was last seen to have noticed."""
        self.ghosts: deque[tuple[Process, Acquired, SegmentKey, Extent]] = deque(maxlen=_MAX_GHOSTS)
        """Views that somebody still has of what is pinned no more."""
        self._open()
        self.processes = [self._process() for _ in range(NUM_PROCESSES)]

    @property
    def held(self) -> list[Held]:
        """Every lease of a process that lives."""
        return [held for process in self.processes for held in process.held]

    def claims(self) -> list[Claim]:
        """Of the living, and of the dead that the store may not have noticed yet."""
        return [claim for held in (*self.held, *self.dead) for claim in held.claims.values()]

    def end(self, process: Process, held: Held) -> None:
        """The lease is given back: what it pinned may go, and who still looks must be told."""
        process.held.remove(held)
        for key, extent in (*held.pinned.items(), *held.arriving.items()):
            self.ghosts.append((process, held.acquired, key, extent))

    def room_for_a_lease(self, process: Process) -> bool:
        return len(process.held) < _MAX_HELD

    def die(self, index: int) -> None:
        """The process ends wherever it was, and another takes its place."""
        process = self.processes[index]
        process.die()
        self.dead += process.held
        self.processes[index] = self._process()

    def reap(self) -> None:
        """Wait until the store has noticed who died: nothing of theirs is left."""
        leases = len(self.held)
        tickets = sum(len(held.claims) for held in self.held)

        def is_reaped() -> bool:
            stats = self.store.stats()
            return stats.leases <= leases and stats.open_tickets <= tickets

        if self.dead and not eventually(is_reaped, PATIENCE_S):
            stats = self.store.stats()
            left = f"{stats.leases} leases and {stats.open_tickets} tickets"
            raise Violation("unbalanced", f"{left}, of the living {leases} and {tickets}")
        self.dead.clear()

    def restart(self) -> None:
        """The store stops in order, and starts over the same folder."""
        self._stop()
        self._start_again()

    def crash(self) -> None:
        """The store starts over what its folder held at this moment, as if it had been killed."""
        before = Path(self.config.ssd_dir)
        self._lives += 1
        after = self._folder / f"ssd-{self._lives}"
        _copy(before, after)
        self._stop()
        shutil.rmtree(before)
        self.config = replace(self.config, ssd_dir=str(after))
        self._start_again()

    def recovered(self) -> None:
        """Wait until the store knows its folder."""
        if not self.store.flush(PATIENCE_S):
            raise Violation("stuck", "the store does not come to know its folder")

    def close(self) -> None:
        for process in self.processes:
            process.close()
        self._stop()

    def _stop(self) -> None:
        self.disk.mend()
        stats = self.store.stats()
        self.seen.update(
            commits=stats.commits, dram_hits=stats.dram.hits, ssd_hits=stats.ssd.hits,
            dram_evictions=stats.dram.evictions, ssd_evictions=stats.ssd.evictions,
        )  # fmt: skip
        self.store.close()

    def _start_again(self) -> None:
        for process in self.processes:
            for held in list(process.held):
                self.end(process, held)
        self.dead.clear()
        self.model.restarted()
        self._open()
        for process in self.processes:
            process.follow(self.store)

    def _open(self) -> None:
        self.store = KVStore(self.config, "node")
        self.disk = Disk(self.store)

    def _process(self) -> Process:
        return Process(self.store, self.config.dram_dir)


def is_refused(process: Process, ticket_id: TicketId) -> bool:
    """Whether a ticket that is not open is answered as such."""
    try:
        process._store.commit([ticket_id], [(0, 0, 0)], process.holder_id)
    except StoreUnavailableError:
        return True
    return False


def _copy(source: Path, target: Path) -> None:
    """Every file that is there, while files come and go."""
    for folder, _, names in os.walk(source):
        into = target / Path(folder).relative_to(source)
        into.mkdir(parents=True, mode=0o700)
        for name in names:
            try:
                shutil.copy2(Path(folder) / name, into / name)
            except FileNotFoundError:
                continue  # it was renamed or deleted meanwhile
