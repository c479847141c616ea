"""Getting objects off a slow tier that are out of sight already. Never under the metadata lock."""

import logging

from kvstore.books import Books
from kvstore.errors import TierUnavailableError
from kvstore.levels import Level
from kvstore.tiers.segment_object import Stored

logger = logging.getLogger(__name__)


def discard(books: Books, level: Level, stored: Stored, damaged: bool = False) -> None:
    """Delete, or put a damaged one aside. A medium that refuses keeps the object: that is
    logged."""
    try:
        if damaged:
            logger.warning("%s: %s is damaged: set aside", level.name, stored.name)
        level.tier.discard(stored, damaged)
    except TierUnavailableError as error:
        logger.warning("a segment stays until the next start: %s", error)
        with books.lock:
            level.write_failures += 1


def settle(books: Books, level: Level) -> None:
    """Make last what was discarded. A medium that refuses is logged."""
    try:
        level.tier.settle()
    except TierUnavailableError as error:
        logger.warning("what was removed may come back after a power cut: %s", error)
        with books.lock:
            level.write_failures += 1
