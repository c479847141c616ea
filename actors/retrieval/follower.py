"""The reading side of a corpus: follows versions, and answers each search from one of them."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.errors import UnavailableError
from actors.messages import Found
from actors.retrieval.embedding import Vectors
from actors.retrieval.manifest import collection_folder, latest_version
from actors.retrieval.snapshot import Snapshot, open_snapshot
from actors.retrieval.storage import Storage

_FOLLOWED = 256
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Matches:
    """Per question the passages found, best first; `version` 0 when there is no collection."""

    version: int
    found: list[list[Found]]


@dataclass(slots=True)
class _Followed:
    tenant: str
    collection: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while a newer version is looked for and opened."""
    snapshot: Snapshot | None = None
    checked: float | None = None


class CorpusReader:
    """Thread-safe. Keeps the collections used last open, memory-mapped.

    A search keeps its snapshot, whatever is published, merged or deleted meanwhile. When the medium
    fails, the version that is open is served on; UnavailableError when there is none.
    """

    def __init__(self, storage: Storage, embedder: str, follow_interval_s: float) -> None:
        self._storage, self._embedder = storage, embedder
        self._follow_interval_s = follow_interval_s
        self._lock = threading.Lock()
        self._followed: OrderedDict[tuple[str, str], _Followed] = OrderedDict()

    def search(self, tenant: str, collection: str, queries: Vectors, top_n: int) -> Matches:
        """The `top_n` nearest passages for each unit vector of [q, dim]."""
        snapshot = self.snapshot(tenant, collection)
        if snapshot is None or not snapshot.parts:
            return Matches(snapshot.version if snapshot else 0, [[] for _ in queries])
        if snapshot.manifest.embedder != self._embedder:
            raise UnavailableError(
                f"collection {collection!r} was embedded by another model: ingest any of its "
                "documents again, which embeds all of them, or set retrieval.embedder back"
            )
        return Matches(snapshot.version, snapshot.search(queries, top_n))

    def snapshot(self, tenant: str, collection: str) -> Snapshot | None:
        """The version to answer from, at most `follow_interval_s` behind the medium."""
        followed = self._follow(tenant, collection)
        if not self._is_due(followed):
            return followed.snapshot
        # Somebody else opens the next version already: answer from the present one.
        if followed.lock.acquire(blocking=followed.snapshot is None):
            try:
                if self._is_due(followed):
                    self._advance(followed)
            finally:
                followed.lock.release()
        return followed.snapshot

    def refresh(self, tenant: str, collection: str, version: int) -> int:
        """Look for `version` now, if an older one is open; the version that is open then."""
        followed = self._follow(tenant, collection)
        with followed.lock:
            if followed.snapshot is None or followed.snapshot.version < version:
                self._advance(followed)
            return followed.snapshot.version if followed.snapshot else 0

    def versions(self) -> Mapping[tuple[str, str], int]:
        """Open version of each (tenant, collection)."""
        with self._lock:
            followed = list(self._followed.items())
        return {key: f.snapshot.version for key, f in followed if f.snapshot}

    def _follow(self, tenant: str, collection: str) -> _Followed:
        with self._lock:
            followed = self._followed.setdefault(
                (tenant, collection), _Followed(tenant, collection)
            )
            self._followed.move_to_end((tenant, collection))
            if len(self._followed) > _FOLLOWED:
                self._followed.popitem(last=False)
            return followed

    def _is_due(self, followed: _Followed) -> bool:
        checked = followed.checked
        return checked is None or time.monotonic() - checked >= self._follow_interval_s

    def _advance(self, followed: _Followed) -> None:
        """Open the current version, with the lock held; parts that are open are kept."""
        try:
            self._open(followed)
        except UnavailableError as error:
            if followed.snapshot is None:
                raise
            version = followed.snapshot.version
            _log.warning("collection %s stays at %d: %s", followed.collection, version, error)
        followed.checked = time.monotonic()

    def _open(self, followed: _Followed) -> None:
        folder = collection_folder(followed.tenant, followed.collection)
        known = followed.snapshot
        if known and latest_version(self._storage, folder) == known.version:
            return
        followed.snapshot = open_snapshot(
            self._storage, followed.tenant, followed.collection, known
        )
