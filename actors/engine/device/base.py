"""The contract of a device tier, and its books: who is kept, who is lent, who goes first."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import ClassVar

from torch import Tensor

from actors.engine.config import DeviceTierConfig
from actors.engine.device.residents import Loan, Resident, Stored
from kvstore.client import StoreClient
from kvstore.errors import KVStoreError
from kvstore.families import Family
from kvstore.pending import PendingWindow
from kvstore.policies import create_policy
from kvstore.shelf import Shelf
from kvstore.tiers.base import Entry
from kvstore.types import Acquired, LeaseId, Path, SegmentKey, SegmentSpec, TierStats

_MAX_USED = 1024
"""Uses that the store has not been told of; then it is told without another reason to call."""
WHOLE_QUEUE = 2**31
"""How many queued requests its look-ahead considers."""


class DeviceTier(ABC):
    """Heads of chains, in the order of a policy, up to a bound. Not the store's: one engine's.

    A segment comes in behind its parent and goes before it (ALGORITHMS 2.3). Only what the store
    has comes in, so what goes is never copied: each segment was copied out once, when it was
    committed (RAGCache's swap-out-only-once, ALGORITHMS 3.1). What the store has lost meanwhile is
    given back to it by `Segments`, the next time that it says so.

    Thread-safe: requests are the engine thread's, announcements and removals come from any.
    """

    copies: ClassVar[bool] = False
    """Whether what comes in is copied, which takes its time."""

    def __init__(self, config: DeviceTierConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._shelf = Shelf(create_policy(config.policy))
        self._window = PendingWindow()
        self._residents: dict[SegmentKey, Resident] = {}
        self._used: list[SegmentKey] = []
        self._unsettled: set[LeaseId] = set()

    @property
    @abstractmethod
    def capacity_bytes(self) -> int: ...

    @property
    @abstractmethod
    def used_bytes(self) -> int: ...

    @abstractmethod
    def _has_room(self, nbytes: int) -> bool: ...

    @abstractmethod
    def _victims(self, nbytes: int) -> list[SegmentKey]:
        """What to evict for so much, nothing that is lent; empty where that cannot be."""

    @abstractmethod
    def _nbytes(self, spec: SegmentSpec) -> int:
        """What it takes here, rounding included."""

    @abstractmethod
    def _load(
        self, client: StoreClient, acquired: Acquired, stored: Stored, spec: SegmentSpec
    ) -> Tensor | None:
        """The tensor to read from now on, where there is room; None when the bytes changed."""

    @abstractmethod
    def _free(self, resident: Resident) -> None:
        """Its bytes are nobody's any more."""

    @abstractmethod
    def _kept_under(self, lease_id: LeaseId) -> list[SegmentKey]:
        """What must stay pinned under this lease when its request has ended."""

    @abstractmethod
    def _meet(self, acquired: Acquired | None) -> None:
        """The store answered from this arena; None: a request begins. What must go, goes."""

    @abstractmethod
    def unchanged(self, client: StoreClient, loan: Loan) -> bool:
        """Whether all that was lent still holds its bytes; what does not, goes."""

    @abstractmethod
    def shed(self) -> None:
        """The store had no room for this request: keep nothing that it could use, nor anything
        new before the next one."""

    def lend(self, paths: Sequence[Path]) -> Loan:
        """The head of each path, as far as it is kept."""
        loan = Loan()
        with self._lock:
            self._meet(None)
            for path in paths:
                head = self._head(path)
                for resident in head:
                    self._lend(loan, resident)
                leaf_first = [resident.spec.key for resident in reversed(head)]
                self._shelf.touch(leaf_first)
                if len(head) == len(path):  # else the store is asked, and sees the use itself
                    self._used += leaf_first
            self._shelf.hits += len(loan.residents)
        return loan

    def lend_all(self) -> tuple[Loan, list[Path]]:
        """Everything that is kept, and the chains that it forms."""
        loan = Loan()
        with self._lock:
            self._meet(None)
            for resident in self._residents.values():
                self._lend(loan, resident)
            specs = {key.digest: resident.spec for key, resident in loan.residents.items()}
            leaves = [spec for digest, spec in specs.items() if not self._shelf.children(digest)]
        return loan, [_chain(leaf, specs) for leaf in leaves]

    def take_in(
        self,
        client: StoreClient,
        loan: Loan,
        paths: Sequence[Path],
        acquired: Acquired,
        stored: Mapping[SegmentKey, Stored],
    ) -> None:
        """Keep, and lend, what the store has of these paths, as far as there is room."""
        with self._lock:
            self._meet(acquired)
            for path in paths:
                for spec in path:
                    resident = self._residents.get(spec.key)
                    if resident is None and spec.key in stored:
                        resident = self._bring(client, acquired, stored[spec.key], spec)
                    if resident is None:
                        break
                    self._lend(loan, resident)

    def give_back(self, loan: Loan) -> None:
        with self._lock:
            for resident in loan.residents.values():
                resident.loans -= 1
                if not resident.loans:
                    self._shelf.policy.unhold(resident.spec.key.digest)
            self._doom([r for r in loan.residents.values() if r.doomed])

    def settle(self, client: StoreClient, lease_id: LeaseId | None) -> None:
        """After a request, with its lease if it has one: tell the store what stays pinned and what
        was used, in one call, and in none when there is nothing to tell. For the engine thread."""
        with self._lock:
            if lease_id is not None:
                self._unsettled.add(lease_id)
            if not self._unsettled and len(self._used) < _MAX_USED:
                return
            kept = {lease: self._kept_under(lease) for lease in self._unsettled}
            used, self._used = self._used, []
            self._unsettled.clear()
        with suppress(KVStoreError):  # a call that is late is still made; else the pins are gone
            client.trim(kept, used)

    def forget(self, tags: Collection[bytes]) -> None:
        """These passages and all that follows them go, as soon as no request reads them."""
        family = Family(tags)
        with self._lock:
            for _ in family.walk((self._shelf,), self._shelf.key_of):
                pass
            self._doom([self._residents[key] for key in family.keys])

    def announce(self, request_id: str, paths: Sequence[Path], deadline_s: float) -> None:
        """A queued request will need these: with look-ahead, they go last."""
        specs = [spec for path in paths for spec in path]
        keys, tenant = dict.fromkeys(spec.key for spec in specs), specs[0].tenant if specs else b""
        with self._lock:
            self._window.announce(request_id, tenant, keys, deadline_s)

    def retire(self, request_id: str) -> None:
        with self._lock:
            self._window.retire(request_id)

    def stats(self) -> TierStats:
        with self._lock:
            shelf = self._shelf
            return TierStats(
                self.capacity_bytes, self.used_bytes, len(shelf), shelf.hits, shelf.evictions
            )

    def check(self) -> list[str]:
        """What does not add up in the books; empty is right."""
        with self._lock:
            problems = self._shelf.check("device", self.used_bytes)
            if self.used_bytes > self.capacity_bytes:
                problems.append(f"device: {self.used_bytes} bytes of {self.capacity_bytes} in use")
            problems += [
                f"device: {r.spec.key} is doomed and not lent"
                for r in self._residents.values()
                if r.doomed and not r.loans
            ]
            return problems

    def _lend(self, loan: Loan, resident: Resident) -> None:
        loan.add(resident)
        self._shelf.policy.hold(resident.spec.key.digest)

    def _head(self, path: Path) -> list[Resident]:
        head = []
        for spec in path:
            resident = self._residents.get(spec.key)
            if resident is None:
                break
            head.append(resident)
        return head

    def _bring(
        self, client: StoreClient, acquired: Acquired, stored: Stored, spec: SegmentSpec
    ) -> Resident | None:
        nbytes = self._nbytes(spec)
        if not self._make_room(nbytes):
            return None
        kv = self._load(client, acquired, stored, spec)
        if kv is None:
            return None
        resident = Resident(spec, kv, nbytes, acquired, stored.extent)
        self._residents[spec.key] = resident
        self._shelf.add(Entry(spec, nbytes, time.time()))
        return resident

    def _make_room(self, nbytes: int) -> bool:
        if not self._has_room(nbytes):
            for key in self._victims(nbytes):
                self._drop(self._residents[key], evicted=True)
        return self._has_room(nbytes)

    def _doom(self, residents: Sequence[Resident]) -> None:
        """These and what follows them: now, or when they are given back."""
        for resident in residents:
            children = self._shelf.children(resident.spec.key.digest)
            self._doom([self._residents[key] for key in children])
            resident.doomed = True
            if not resident.loans and self._residents.get(resident.spec.key) is resident:
                self._drop(resident)

    def _drop(self, resident: Resident, evicted: bool = False) -> None:
        del self._residents[resident.spec.key]
        self._shelf.remove(resident.spec.key, evicted)
        self._free(resident)


def _chain(leaf: SegmentSpec, specs: Mapping[bytes, SegmentSpec]) -> Path:
    chain = [leaf]
    while parent := specs.get(chain[-1].parent):
        chain.append(parent)
    return tuple(reversed(chain))
