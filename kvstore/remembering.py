"""What the eviction policies learned, kept on the disk and taken up again after a restart."""

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from kvstore.books import Books
from kvstore.garbage import uninterrupted
from kvstore.policies import EvictionPolicy
from kvstore.policies.nodes import Learned
from kvstore.tiers.files import Files
from kvstore.tiers.medium import Listed
from kvstore.tiers.segment_files import key_of
from kvstore.tiers.slow import SlowTier
from kvstore.turns import in_turns
from kvstore.types import SegmentKey, TierName
from kvstore.uses import MAX_RECORDS, DamagedUsesError, Remembered, Uses, UsesFile

logger = logging.getLogger(__name__)

SAVE_S = 60.0
"""So much of what was learned a crash can cost."""


class Remembering:
    """Of DRAM and the SSD, in the SSD's folder. One thread writes, now and then and at close;
    the thread that recovers the SSD reads before that."""

    def __init__(self, books: Books, folder: Path, files: Files) -> None:
        self._books = books
        self._folder = folder
        self._file = UsesFile(folder, files)
        self._policies: Mapping[TierName, EvictionPolicy] = {
            "dram": books.dram_shelf.policy,
            **{level.name: level.shelf.policy for level in books.levels if level.tier.exclusive},
        }
        self._recalled = False
        """Until then the file has more than the policies."""
        self._fails = False
        self._closing = threading.Event()
        self._thread = books.threads.start("kvstore-uses", self._step)

    def recall(self, tier: SlowTier) -> None:
        """Takes up what a predecessor learned, before the SSD's recovery, which goes by it. Of
        other tiers nothing is known."""
        if not tier.exclusive:
            return
        uses = self._load()
        for name, policy in self._policies.items():
            self._give(policy, uses.tiers.get(name, ()))
        tier.recall(Recency(uses))
        self._recalled = True

    def save(self) -> None:
        """The folder has its mark then: without, a restart would refuse what is not empty."""
        if not self._recalled:
            return
        learned = {tier: self._learned(policy) for tier, policy in self._policies.items()}
        try:
            for level in self._books.levels:
                level.tier.tend()
            self._file.save({tier: one.latest(MAX_RECORDS) for tier, one in learned.items()})
            self._fails = False
        except OSError as error:
            if not self._fails:
                logger.warning("uses are not kept over a restart for now: %s", error)
            self._fails = True

    def stop(self) -> None:
        """After it has saved once more."""
        self._closing.set()

    def await_end(self, give_up: float) -> None:
        self._thread.await_end(give_up)

    def _step(self) -> bool:
        is_last = self._closing.wait(SAVE_S)
        self.save()
        return not is_last

    def _load(self) -> Uses:
        try:
            return self._file.load()
        except (OSError, DamagedUsesError) as error:
            logger.warning("what was used before is not known: %s: %s", self._folder, error)
            return Uses({})

    def _learned(self, policy: EvictionPolicy) -> Learned:
        """A copy of references: milliseconds for a few hundred thousand segments."""
        with uninterrupted(self._books.lock):
            return policy.learned()

    def _give(self, policy: EvictionPolicy, remembered: Sequence[Remembered]) -> None:
        def give(one: Remembered) -> None:
            policy.remember(*one)

        in_turns(self._books.lock, reversed(remembered), give)


def create_remembering(books: Books) -> Remembering | None:
    """Where there is an SSD."""
    folder = books.ssd_folder
    return Remembering(books, folder, books.files) if folder is not None else None


class Recency:
    """When the files of a folder were last used: those that the uses know in their order, behind
    what was written since, before what was written earlier."""

    def __init__(self, uses: Uses) -> None:
        latest_first = uses.tiers.get("ssd", ())
        self._age: Mapping[SegmentKey, int] = {k: i for i, (k, _) in enumerate(latest_first)}
        self._written_at = uses.written_at

    def __call__(self, listed: Listed) -> tuple[int, float]:
        """The latest is the largest."""
        key = key_of(listed.name)
        if key is not None and key in self._age:
            return 1, -float(self._age[key])
        return (2 if listed.last_use > self._written_at else 0), listed.last_use
