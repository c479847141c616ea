"""At a start: tombstones for what a predecessor deleted and its tiers still had."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from kvstore.deletions import DamagedListError, DeletionList
from kvstore.levels import Level

logger = logging.getLogger(__name__)

_NEVER = 2**63
"""A version of tombstones that is not reached."""


def bury(deletions: DeletionList, levels: Sequence[Level]) -> None:
    """Nothing that the list names is served. One that cannot be read may name anything."""
    try:
        found = deletions.load()
    except (OSError, DamagedListError) as error:
        logger.error("all that is on the SSD is deleted: the list of deletions %s", error)
        found = []
        for level in levels:
            if level.tier.exclusive:
                level.tombstones.add_all()
    stones = {level.name: level.tombstones for level in levels}
    kept = []
    for deletion in found:
        version = _NEVER  # a tier that is not used now keeps its deletions
        if deletion.tier in stones:
            version = stones[deletion.tier].add(deletion.tags, deletion.keys)
        kept.append(replace(deletion, version=version))
    deletions.keep(kept)
