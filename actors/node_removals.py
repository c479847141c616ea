"""What one node knows of removals: those that it made, and those that it was told of.

    untold ------------ learn -------------> told
      ^                                        |
      +-- silent, stopped, dropped, restarted -+

A node that nobody reached for a while, whose process stood still, that is no member, or that
begins, may have what was removed meanwhile. It is no member of the cluster, and serves nothing,
until it has been told (`cluster/telling.py`). One that was away for longer than the others remember
drops all that it has. A node that never was told of anything is new, and serves.
"""

import logging
import os
import threading
import time
from collections.abc import Collection
from pathlib import Path

from actors.removal_file import DamagedRemovalsError, RemovalFile
from actors.removal_log import Kept, RemovalLog, Removals, Removed
from kvstore import arguments
from kvstore.config import StoreConfig
from kvstore.errors import RemovalError
from kvstore.store import KVStore
from kvstore.tiers.files import Files

logger = logging.getLogger(__name__)

SILENT_S = 8.0
"""So long without the directory's news, or without running, and a removal may have missed this
node. The directory drops a node later than that."""
_PULSE_S = 1.0
_LOOK_S = 1.0
_SAVE_S = 1.0
"""How long a removal waits for the disk to have it; the other nodes remember it as well."""
_SAVE_TOLD_MS = 60_000
"""How far what the file says of the time until which the node was told may be behind."""
_WRITTEN_S = 1.0


class NodeRemovals:
    """Thread-safe. One thread reads the log of an earlier life and writes this one's."""

    def __init__(self, store: KVStore, config: StoreConfig) -> None:
        self._store = store
        self._log = RemovalLog()
        folder = Path(config.ssd_dir) if config.ssd_dir else None
        self._file = RemovalFile(folder, Files()) if folder else None
        self._learning = threading.Lock()
        self._is_loaded = folder is None
        self._told_ms: int | None = None
        """Up to then nothing was missed; None: this node was never told of anything."""
        self._is_told = False
        self._lapses = 0
        """How often something may have been removed without this node."""
        self._followed_at = self._ran_at = time.monotonic()
        self._saved = -1, 0
        """Version of the log, and until when this node was told."""
        self._attempted = -1
        """Version of the log that was written, or could not be."""
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = store.threads.start("shard-removals", self._step)
        self._pulse = store.threads.every(_PULSE_S, "shard-pulse", self._note_that_it_runs)
        store.withhold_while(self._why_withheld)

    def close(self, timeout_s: float) -> None:
        """Writes once more; a disk that hangs is left behind."""
        self._pulse.stop()
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    @property
    def is_told(self) -> bool:
        """Whether it knows of all that was removed, as far as it has not been silent since."""
        return self._is_told

    def followed(self, is_member: bool) -> None:
        """The directory reached this node. Of what is no member nobody asks to remove anything."""
        now = time.monotonic()
        if not is_member or now - self._followed_at > SILENT_S:
            self._lapse()
        self._followed_at = now
        if self._is_told:
            self._told_ms = _now_ms()

    def remove_tags(self, tags: Collection[bytes], removal: bytes) -> int:
        """As `KVStore.remove_tags`; remembered for nodes that are away."""
        tags = arguments.taken_tags("tags", tags)
        arguments.require_removal("removal", removal)
        removal = removal or os.urandom(16)
        self._log.note(removal, tags)
        version = self._log.version
        with self._changed:
            self._changed.notify_all()
        try:
            return self._store.remove_tags(tags, removal)
        finally:
            self._await_saved(version)

    def known(self) -> Kept | None:
        """None until the log of an earlier life was read."""
        return Kept(self._told_ms or 0, self._log.known()) if self._is_loaded else None

    def learn(self, removals: Removals) -> bool:
        """Make what is missing here of all that was removed since the log reaches back; whether
        that is done, and nothing may have been removed meanwhile without this node."""
        if not self._is_loaded or not self._learning.acquire(blocking=False):
            return False
        lapses, began_ms = self._lapses, _now_ms()
        try:
            is_late = self._was_away_since_before(removals.since_ms)
            if is_late and not self._drop():
                return False
            self._catch_up(removals.entries)
        except RemovalError as error:
            logger.warning("removals of other nodes are not made yet: %s", error)
            return False
        finally:
            self._learning.release()
        self._log.reach_back(removals.since_ms, not is_late)
        self._told_ms = began_ms
        self._look_at_clock()
        self._is_told = lapses == self._lapses
        return self._is_told

    def _why_withheld(self) -> str:
        """Nothing, where what is here may be served."""
        self._look_at_clock()
        if self._is_loaded and (self._is_told or self._told_ms is None):
            return ""
        return "this node has not been told yet of what was removed while it was away"

    def _note_that_it_runs(self) -> None:
        self._look_at_clock()
        self._ran_at = time.monotonic()

    def _look_at_clock(self) -> None:
        """A process that was stopped is asked by its clients before the directory reaches it."""
        if time.monotonic() - self._ran_at > SILENT_S:
            self._lapse()

    def _lapse(self) -> None:
        self._is_told = False
        self._lapses += 1

    def _catch_up(self, entries: Collection[Removed]) -> None:
        if missing := self._log.missing(entries):
            tags = {tag for entry in missing for tag in entry.tags}
            self._store.remove_tags(tags)
            logger.info("%d passages were removed while this node was away", len(tags))
        self._log.add(entries)

    def _was_away_since_before(self, then_ms: int) -> bool:
        return self._told_ms is not None and self._told_ms < then_ms

    def _drop(self) -> bool:
        """All that it has, once its disk is listed."""
        if not self._store.flush(_WRITTEN_S):
            return False
        specs = self._store.holdings()
        logger.warning("%d segments are dropped: others forgot what they removed", len(specs))
        self._store.remove_tags({spec.tag for spec in specs})
        return True

    def _step(self) -> bool:
        """Reads the file first, then writes what is new."""
        if self._file is None:
            return False
        if not self._is_loaded:
            self._load(self._file)
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing or self._has_news, _LOOK_S)
            is_last = self._is_closing
        version = self._log.version
        try:
            self._save(self._file)
        finally:
            with self._changed:
                self._attempted = version
                self._changed.notify_all()
        return not is_last

    @property
    def _has_news(self) -> bool:
        return self._can_save and self._log.version > self._attempted

    @property
    def _can_save(self) -> bool:
        """A node that was never told of anything missed nothing, and needs no file."""
        return self._file is not None and self._is_loaded and self._told_ms is not None

    def _await_saved(self, version: int) -> None:
        if not self._can_save:
            return
        with self._changed:
            if not self._changed.wait_for(lambda: self._attempted >= version, _SAVE_S):
                logger.warning("a removal is not noted on the disk yet: other nodes know of it")

    def _load(self, file: RemovalFile) -> None:
        try:
            kept = file.load()
        except (OSError, DamagedRemovalsError) as error:
            logger.error("the log of removals %s: nobody knows what this node missed", error)
            kept = Kept(0, Removals(_now_ms(), ()))
        if kept is not None:
            self._told_ms = kept.told_ms
            self._log.add(kept.removals.entries)
            self._log.reach_back(kept.removals.since_ms)
        self._is_loaded = True

    def _save(self, file: RemovalFile) -> None:
        """Not before the folder is marked: a restart would refuse it."""
        told_ms, version = self._told_ms, self._log.version
        if told_ms is None or not file.is_in_place:
            return
        saved_version, saved_told_ms = self._saved
        if version != saved_version or told_ms - saved_told_ms > _SAVE_TOLD_MS:
            file.save(Kept(told_ms, self._log.known()))
            self._saved = version, told_ms


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
