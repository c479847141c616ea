"""At a start: tombstones for what a predecessor deleted and its tiers still had."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from kvstore.deletions import DeletionList
from kvstore.levels import Level

logger = logging.getLogger(__name__)

_NEVER = 2**63
"""A version of tombstones that is not reached."""


def bury(deletions: DeletionList, levels: Sequence[Level]) -> None:
    """Nothing that the list names is served. One that is damaged may have named anything: the SSD
    is emptied, and of a tier that others share, which cannot be, nothing is served."""
    found = deletions.load()
    if found.damage:
        text = "%s %s: all that is on the SSD is deleted. Move away what is no list of the store."
        logger.error(text, deletions.path, found.damage)
    for level in levels:
        if level.tier.exclusive and found.damage:
            level.tombstones.add_all()
        if not level.tier.exclusive and deletions.is_lossy:
            level.distrust = _distrust(deletions)
            logger.error("the %s tier is left alone: %s", level.name, level.distrust)
    stones = {level.name: level.tombstones for level in levels}
    kept = []
    for deletion in found.deletions:
        version = _NEVER  # a tier that is not used now keeps its deletions
        if deletion.tier in stones:
            version = stones[deletion.tier].add(deletion.tags, deletion.keys)
        kept.append(replace(deletion, version=version))
    deletions.keep(kept)


def _distrust(deletions: DeletionList) -> str:
    return (
        "it may have passages that were removed, since a list of deletions was damaged. Remove them"
        f" once more, or empty the bucket; then remove {deletions.aside} and start again"
    )
