"""Which parts are rewritten into one, and what no version needs any more.

Parts are merged smallest first, so that a document is rewritten about log(n) times, not n times.
"""

import logging
from collections.abc import Sequence

from actors.errors import UnavailableError
from actors.retrieval.manifest import (
    PART,
    VARIANTS,
    latest_version,
    manifest_name,
    read_manifest,
    versions,
)
from actors.retrieval.snapshot import LivePart
from actors.retrieval.storage import Storage

KEEP_VERSIONS = 4
"""Versions whose files stay, so that a follower can finish opening one."""
_DEAD_SHARE = 0.5
_log = logging.getLogger(__name__)


def parts_to_merge(parts: Sequence[LivePart], max_parts: int) -> list[LivePart]:
    """Parts that are mostly dead, and the smallest half when there are too many."""
    chosen = [p for p in parts if len(p.entry.dead) > _DEAD_SHARE * p.entry.num_documents]
    left = len(parts) - max(len(chosen) - 1, 0)
    if left > max_parts:
        by_size = sorted(parts, key=lambda p: p.num_passages)
        smallest = by_size[: len(parts) - max_parts // 2]
        chosen += [part for part in smallest if part not in chosen]
    return chosen


def retire(storage: Storage, folder: str) -> None:
    """Remove versions that are old or never became current, and what only they have.

    What cannot be removed now is tried again after the next version.
    """
    try:
        _retire(storage, folder)
    except UnavailableError as error:
        _log.warning("corpus folder %s could not be cleaned: %s", folder, error)


def _retire(storage: Storage, folder: str) -> None:
    current = latest_version(storage, folder)
    names = storage.names(folder)
    kept = [v for v in versions(names) if current - KEEP_VERSIONS < v <= current]
    needed: set[str] = set()
    for version in kept:
        manifest = read_manifest(storage, folder, version)
        if manifest is not None:
            needed |= {part.name for part in manifest.parts}
            needed |= {manifest.variants.name} if manifest.variants else set()
    for version in set(versions(names)) - set(kept):
        storage.remove(f"{folder}/{manifest_name(version)}")
    for name in names:
        if name.startswith((PART, VARIANTS)) and name not in needed:
            storage.remove(f"{folder}/{name}")
