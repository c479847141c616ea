"""Getting files off the SSD that are out of sight already. Never under the metadata lock."""

import logging

from kvstore.books import Books
from kvstore.errors import TierUnavailableError
from kvstore.tiers.segment_file import SegmentFile

logger = logging.getLogger(__name__)


def discard(books: Books, file: SegmentFile, damaged: bool = False) -> None:
    """Unlink, or put a damaged one aside. A disk that refuses keeps the file: that is logged."""
    assert books.ssd is not None
    try:
        if damaged:
            logger.warning("segment file %s is damaged: quarantined", file.path)
            books.ssd.quarantine(file)
        else:
            books.ssd.discard(file)
    except TierUnavailableError as error:
        logger.warning("segment file stays until the next start: %s", error)
        with books.lock:
            books.counters.ssd_write_failures += 1
