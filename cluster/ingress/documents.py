"""/v1/documents: add (JSON or files), list, delete."""

import asyncio
from dataclasses import asdict
from hashlib import blake2b
from typing import Any

from fastapi import Query, Request
from pydantic import Field
from starlette.datastructures import FormData, UploadFile

from actors.messages import Document
from cluster.errors import NotFoundError
from cluster.ingress.auth import Tenant
from cluster.ingress.context import Context, ContextDep
from cluster.ingress.description import request_body
from cluster.ingress.errors import invalid
from cluster.ingress.ingestion import Change, spread
from cluster.ingress.json_body import json_router, read_body
from cluster.ingress.schemas import Body, Text, collection_of

router = json_router()


class NewDocument(Body):
    id: Text | None = None
    """Without one, the digest of the text."""
    text: Text
    metadata: dict[str, Any] = Field(default_factory=dict)

    def document(self) -> Document:
        digest = blake2b(self.text.encode(), digest_size=16).hexdigest()
        return Document(digest if self.id is None else self.id, self.text, self.metadata)


class NewDocuments(Body):
    """One document, or `documents`."""

    id: Text | None = None
    text: Text | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    documents: list[NewDocument] | None = None
    collection: str | None = None

    def all(self) -> list[Document]:
        if (self.text is None) == (self.documents is None):
            raise invalid("documents", "give either `text`, or `documents` with one or more")
        if self.text is not None:
            one = NewDocument(id=self.id, text=self.text, metadata=self.metadata)
            return [one.document()]
        return [document.document() for document in self.documents or ()]


FILES = {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}}
UPLOAD = {
    "type": "object",
    "properties": {**FILES, "collection": {"type": "string"}},
    "required": ["file"],
}


@router.post(
    "/v1/documents", openapi_extra=request_body(NewDocuments, **{"multipart/form-data": UPLOAD})
)
async def add(request: Request, tenant: Tenant, context: ContextDep) -> dict[str, Any]:
    deadline = context.limits.ingest()
    given, documents = await _read(request, context)
    collection = collection_of(given, context.config.ingress)
    if not documents:
        raise invalid("documents", "needs one document or more")
    corpus = context.services.corpus
    ingested = corpus.ingest(tenant, collection, documents, deadline.left_s())
    result = await deadline.bound(ingested, "ingestion")
    change = Change(tenant, collection, result.version, result.replaced, result.fused)
    reached = await spread(context.services, change, deadline)
    return {
        "collection": collection,
        "version": result.version,
        "added": result.added,
        "updated": result.updated,
        "unchanged": result.unchanged,
        "num_passages": result.num_passages,
        "ids": [document.id for document in documents],
        **asdict(reached),
    }


@router.get("/v1/documents")
async def listing(
    tenant: Tenant,
    context: ContextDep,
    collection: str | None = None,
    after: str | None = None,
    limit: int = Query(100, ge=1, le=1000),
) -> dict[str, Any]:
    name = collection_of(collection, context.config.ingress)
    deadline, corpus = context.limits.request(), context.services.corpus
    listed = corpus.list_documents(tenant, name, after, limit, deadline.left_s())
    page = await deadline.bound(listed, "listing")
    return {"collection": name, **asdict(page)}


@router.delete("/v1/documents/{document_id:path}")
async def delete(
    document_id: str, tenant: Tenant, context: ContextDep, collection: str | None = None
) -> dict[str, Any]:
    name = collection_of(collection, context.config.ingress)
    deadline = context.limits.ingest()
    corpus = context.services.corpus
    deleted = corpus.delete(tenant, name, [document_id], deadline.left_s())
    result = await deadline.bound(deleted, "deletion")
    if not result.deleted:
        raise NotFoundError("id", f"collection {name!r} has no document {document_id[:100]!r}")
    change = Change(tenant, name, result.version, result.removed, result.fused)
    reached = await spread(context.services, change, deadline)
    return {
        "id": document_id,
        "collection": name,
        "deleted": True,
        "version": result.version,
        **asdict(reached),
    }


async def _read(request: Request, context: Context) -> tuple[str | None, list[Document]]:
    """(collection, documents) of a JSON body or of uploaded files."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        body = await read_body(request, NewDocuments)
        return body.collection, body.all()
    max_files = context.config.retrieval.max_batch_documents
    async with request.form(max_files=max_files, max_fields=16) as form:
        collection = form.get("collection") or request.query_params.get("collection")
        if isinstance(collection, UploadFile):
            raise invalid("collection", "must be a text field, not a file")
        return collection, await _uploaded(form, context)


async def _uploaded(form: FormData, context: Context) -> list[Document]:
    limit = context.config.retrieval.max_document_bytes
    documents: list[Document] = []
    for _, item in form.multi_items():
        if isinstance(item, UploadFile):
            data = await item.read()
            name = item.filename or ""
            documents += await asyncio.to_thread(context.parse_upload, name, data, limit)
    if not documents:
        raise invalid("file", "needs at least one file with a document")
    return documents
