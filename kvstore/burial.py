"""At a start: tombstones for what a predecessor deleted and its tiers still had."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace

from kvstore.deletion_records import Deletion, Found
from kvstore.deletions import DeletionList
from kvstore.levels import Level
from kvstore.tiers.deadline import Deadline

logger = logging.getLogger(__name__)

_NEVER = 2**63
"""A version of tombstones that is not reached."""
_WAIT_S = 5.0
"""So long a disk may take at the start before the list is left to a thread of its own."""


def bury(deletions: DeletionList, levels: Sequence[Level], lock: threading.Lock) -> None:
    """Nothing that the list names is served. On a disk that hangs the list is read beside the
    store, which until then serves nothing from its slow tiers and writes nothing to them."""
    for level in levels:
        level.distrust = "the list of deletions is not read yet"

    def begin() -> None:
        found = deletions.load()
        is_lossy = deletions.is_lossy
        with lock:
            for level in levels:
                level.distrust = _distrust(deletions) if _is_doubtful(level, is_lossy) else ""
            deletions.keep(_entomb(found, levels))
        _report(deletions, found, levels)

    try:
        Deadline(_WAIT_S, threads=1).run(begin)
    except TimeoutError as error:
        logger.error("%s: the disk hangs: %s", deletions.path, error.strerror)


def _entomb(found: Found, levels: Sequence[Level]) -> list[Deletion]:
    """A list that is damaged may have named anything: the SSD is emptied."""
    for level in levels:
        if level.tier.exclusive and found.damage:
            level.tombstones.add_all()
    stones = {level.name: level.tombstones for level in levels}
    kept = []
    for deletion in found.deletions:
        version = _NEVER  # a tier that is not used now keeps its deletions
        if deletion.tier in stones:
            version = stones[deletion.tier].add(deletion.tags, deletion.keys)
        kept.append(replace(deletion, version=version))
    return kept


def _is_doubtful(level: Level, is_lossy: bool) -> bool:
    """A tier that others share cannot be emptied: nothing of it is served."""
    return is_lossy and not level.tier.exclusive


def _report(deletions: DeletionList, found: Found, levels: Sequence[Level]) -> None:
    if found.damage:
        text = "%s %s: all that is on the SSD is deleted. Move away what is no list of the store."
        logger.error(text, deletions.path, found.damage)
    for level in levels:
        if level.distrust:
            logger.error("the %s tier is left alone: %s", level.name, level.distrust)


def _distrust(deletions: DeletionList) -> str:
    return (
        "it may have passages that were removed, since a list of deletions was damaged. Remove them"
        f" once more, or empty the bucket; then remove {deletions.aside} and start again"
    )
