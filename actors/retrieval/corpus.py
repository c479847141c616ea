"""The one writer of a corpus: each change of a collection publishes its next version.

A batch becomes one new immutable part; documents it replaces are marked dead in older parts; the
manifest makes both current in one step. A crash leaves the old version or the new one.

When embedder, tokenizer or passage length changed since a collection was written, its next ingest
(even of documents it has) first splits and embeds all of it again, in the same new version. Until
then a reader refuses to search it where the embedder changed: vectors of two models do not compare.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from actors.errors import RequestError, UnavailableError
from actors.messages import (
    DeleteResult,
    Document,
    DocumentPage,
    IngestResult,
    Neighbourhood,
    Passage,
    RecordResult,
)
from actors.passages import PassageSplitter
from actors.retrieval.building import PartFactory
from actors.retrieval.changes import (
    fused_gone,
    fused_segment,
    is_same,
    text_digests,
    texts_gone,
    without,
)
from actors.retrieval.compaction import parts_to_merge, retire
from actors.retrieval.config import RetrievalConfig
from actors.retrieval.documents import check_documents
from actors.retrieval.embedding import Embeds
from actors.retrieval.lock import LOCK, WriterLock
from actors.retrieval.manifest import (
    Manifest,
    collection_folder,
    latest_version,
    read_manifest,
    tenant_folder,
    write_manifest,
)
from actors.retrieval.names import check_limit, check_names
from actors.retrieval.snapshot import LivePart, Snapshot, open_snapshot
from actors.retrieval.storage import LocalStorage, Storage
from actors.retrieval.variants import Variants

_OPEN_COLLECTIONS = 64
_log = logging.getLogger(__name__)


class CorpusWriter:
    """Thread-safe; changes happen one after another, listings while a change is under way.

    A local corpus folder is locked against other writers. A remote one cannot be: run one writer.
    Raises RequestError for input that cannot be kept, UnavailableError when the medium fails (the
    old version then stays).
    """

    def __init__(
        self,
        config: RetrievalConfig,
        storage: Storage,
        embedder: Embeds,
        splitter: PassageSplitter,
        lock_wait_s: float = 0.0,
    ) -> None:
        self._config, self._storage = config, storage
        self._embedder, self._splitter = embedder, splitter
        self._factory = PartFactory(storage, embedder, splitter, config.ivf_threshold)
        self._changing, self._opening = threading.Lock(), threading.Lock()
        self._open: OrderedDict[tuple[str, str], Snapshot] = OrderedDict()
        self._lock: WriterLock | None = None
        if isinstance(storage, LocalStorage):
            self._lock = WriterLock(storage.root, lock_wait_s)
        self._clean()

    def close(self) -> None:
        """Let another writer in."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def ingest(self, tenant: str, collection: str, documents: Sequence[Document]) -> IngestResult:
        """Add these documents, replace those whose text or metadata changed, in one version."""
        check_names(tenant, collection)
        limit = self._config.max_batch_documents
        if not 1 <= len(documents) <= limit:
            raise RequestError("documents", f"has {len(documents)} documents, allowed 1 to {limit}")
        check_documents(documents, self._config.max_document_bytes)
        with self._change(tenant, collection):
            return self._ingest(tenant, collection, documents)

    def delete(self, tenant: str, collection: str, document_ids: Sequence[str]) -> DeleteResult:
        """Remove these documents in one version; ids that are not there are reported."""
        check_names(tenant, collection)
        with self._change(tenant, collection):
            return self._delete(tenant, collection, list(dict.fromkeys(document_ids)))

    def record(self, tenant: str, collection: str, made: Sequence[Neighbourhood]) -> RecordResult:
        """Name the fused segments of these passages, in one version: searches give them from then
        on. What has lost its passage or a neighbour meanwhile is left out."""
        check_names(tenant, collection)
        with self._change(tenant, collection):
            return self._record(tenant, collection, made)

    def list_documents(
        self, tenant: str, collection: str, after: str | None = None, limit: int = 100
    ) -> DocumentPage:
        """Documents by id, behind `after`."""
        check_names(tenant, collection)
        check_limit(limit)
        snapshot = self.snapshot(tenant, collection)
        return snapshot.page(after, limit) if snapshot else DocumentPage(0, 0, (), None)

    def passages(
        self, tenant: str, collection: str, document_ids: Sequence[str] | None = None
    ) -> Iterator[Passage]:
        """Passages by document id and ordinal, of all documents or of these; of one version."""
        check_names(tenant, collection)
        snapshot = self.snapshot(tenant, collection)
        return snapshot.passages(document_ids) if snapshot else iter(())

    def collections(self, tenant: str) -> list[str]:
        """Names of the tenant's collections that have documents."""
        check_names(tenant, "-")
        names: list[str] = []
        for folder in self._folders(tenant_folder(tenant)):
            manifest = read_manifest(self._storage, folder, latest_version(self._storage, folder))
            if manifest and any(part.num_documents > len(part.dead) for part in manifest.parts):
                names.append(manifest.collection)
        return sorted(names)

    def snapshot(self, tenant: str, collection: str) -> Snapshot | None:
        """The current version, opened; None when there is no such collection."""
        with self._opening:
            found = self._open.get((tenant, collection))
            if found is None:
                found = open_snapshot(self._storage, tenant, collection, None)
            if found is not None:
                self._remember(found)
            return found

    def _ingest(self, tenant: str, collection: str, documents: Sequence[Document]) -> IngestResult:
        base = self.snapshot(tenant, collection)
        folder = collection_folder(tenant, collection)
        fresh = [document for document in documents if not is_same(document, base)]
        updated = [document.id for document in fresh if base and base.find(document.id)]
        stale = base is not None and self._is_stale(base.manifest)
        result = IngestResult(
            version=base.version if base else 0,
            added=len(fresh) - len(updated),
            updated=len(updated),
            unchanged=len(documents) - len(fresh),
            num_passages=0,
            replaced=(),
        )
        if not fresh and not stale:
            return result
        manifest = self._next_manifest(tenant, collection, base)
        parts = without(base, updated)
        if stale:
            parts = [self._factory.embed_again(folder, live) for live in parts]
        if fresh:
            parts.append(self._factory.embed(folder, fresh))
        num_passages = parts[-1].num_passages if fresh else 0
        snapshot = self._publish(manifest, parts, base.variants if base else Variants())
        result = replace(result, version=snapshot.version, num_passages=num_passages)
        if updated or stale:
            gone = texts_gone(base, snapshot), fused_gone(base, snapshot)
            result = replace(result, replaced=gone[0], fused=gone[1])
        return result

    def _delete(self, tenant: str, collection: str, document_ids: list[str]) -> DeleteResult:
        base = self.snapshot(tenant, collection)
        deleted = {i: None for i in document_ids if base and base.find(i)}
        missing = tuple(i for i in document_ids if i not in deleted)
        if base is None or not deleted:
            return DeleteResult(base.version if base else 0, (), missing, ())
        manifest = replace(base.manifest, version=base.version + 1)
        snapshot = self._publish(manifest, without(base, deleted), base.variants)
        gone = texts_gone(base, snapshot), fused_gone(base, snapshot)
        return DeleteResult(snapshot.version, tuple(deleted), missing, *gone)

    def _record(self, tenant: str, collection: str, made: Sequence[Neighbourhood]) -> RecordResult:
        base = self.snapshot(tenant, collection)
        if base is None:
            return RecordResult(0, tuple(map(fused_segment, made)))
        variants, snapshot = base.variants.recorded(made), base
        if len(variants) > len(base.variants) or base.variants.lost(variants):
            manifest = replace(base.manifest, version=base.version + 1)
            snapshot = self._publish(manifest, base.parts, variants)
        late = [one for one in map(fused_segment, made) if not snapshot.names(one)]
        return RecordResult(snapshot.version, (*fused_gone(base, snapshot), *late))

    def _is_stale(self, manifest: Manifest) -> bool:
        """Whether it was written with another embedder, tokenizer or passage length."""
        present = self._embedder.fingerprint, self._splitter.fingerprint
        return (manifest.embedder, manifest.splitter) != present

    def _next_manifest(self, tenant: str, collection: str, base: Snapshot | None) -> Manifest:
        return Manifest(
            tenant=tenant,
            collection=collection,
            version=base.version + 1 if base else 1,
            embedder=self._embedder.fingerprint,
            splitter=self._splitter.fingerprint,
            dim=self._embedder.dim,
            parts=(),
        )

    def _publish(
        self, manifest: Manifest, parts: Sequence[LivePart], variants: Variants
    ) -> Snapshot:
        """Merge what should be merged, and make these parts and what lives on of these variants
        the current version."""
        folder = collection_folder(manifest.tenant, manifest.collection)
        merged = parts_to_merge(parts, self._config.max_parts)
        kept = [part for part in parts if part not in merged]
        if merged:
            kept.append(self._factory.merge(folder, merged, manifest.dim))
        if len(variants):
            variants = variants.living(text_digests(kept))
        variants = variants.published(self._storage, folder)
        entries = tuple(part.entry for part in kept)
        manifest = replace(manifest, parts=entries, variants=variants.entry)
        with self._opening:
            # A write that fails may have happened all the same: then the medium knows, not we.
            self._open.pop((manifest.tenant, manifest.collection), None)
            write_manifest(self._storage, manifest)
            snapshot = Snapshot(manifest, kept, variants)
            self._remember(snapshot)
        return snapshot

    @contextmanager
    def _change(self, tenant: str, collection: str) -> Iterator[None]:
        """One change at a time; what it made needless, or did not finish, is removed behind it."""
        with self._changing:
            try:
                yield
            finally:
                retire(self._storage, collection_folder(tenant, collection))

    def _remember(self, snapshot: Snapshot) -> None:
        key = (snapshot.manifest.tenant, snapshot.manifest.collection)
        self._open[key] = snapshot
        self._open.move_to_end(key)
        if len(self._open) > _OPEN_COLLECTIONS:
            self._open.popitem(last=False)

    def _clean(self) -> None:
        """Remove what a crash left. Nothing else writes, so all of it is abandoned."""
        try:
            self._storage.clean()
            for tenant in self._folders(""):
                for folder in self._folders(tenant):
                    retire(self._storage, folder)
        except UnavailableError as error:
            _log.warning("the corpus could not be cleaned: %s", error)

    def _folders(self, folder: str) -> list[str]:
        names = [name for name in self._storage.names(folder) if name != LOCK and name[0] != "."]
        return [f"{folder}/{name}" if folder else name for name in names]
