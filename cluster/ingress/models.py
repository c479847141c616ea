"""The names that a request's `model` may have, and GET /v1/models.

`NAME-plain` answers without retrieval, `NAME@COLLECTION` from one collection: user interfaces let
their user choose a model and send no field of ours.
"""

import logging
import re
import time
from dataclasses import dataclass
from typing import Any

from actors.errors import ActorError
from cluster.errors import ReplicaLostError
from cluster.ingress.auth import Tenant
from cluster.ingress.config import IngressConfig
from cluster.ingress.context import Context, ContextDep
from cluster.ingress.errors import ApiError
from cluster.ingress.json_body import json_router
from cluster.ingress.schemas import RetrievalOptions, collection_of

_log = logging.getLogger("hyperrag.ingress")
router = json_router()

LISTING_TIMEOUT_S = 2.0
_STARTED = int(time.time())


@dataclass(frozen=True, slots=True)
class Generating:
    """A generator as a request named it."""

    name: str
    collection: str | None
    retrieves: bool

    def options(self, given: RetrievalOptions) -> RetrievalOptions:
        """What the request itself says holds; the rest is said by the name."""
        said: dict[str, Any] = {}
        if self.collection and "collection" not in given.model_fields_set:
            said["collection"] = self.collection
        if not self.retrieves and "retrieve" not in given.model_fields_set:
            said["retrieve"] = False
        return given.model_copy(update=said)


def generator_of(model: str | None, ingress: IngressConfig) -> Generating:
    """Raises ApiError: 404 for a model that does not generate, 400 for no name of a collection."""
    name = _target(model or ingress.generator_name, ingress)
    own, _, collection = name.partition("@")
    if collection and own == ingress.generator_name:
        return Generating(model or name, collection_of(collection, ingress), True)
    if name not in (ingress.generator_name, ingress.plain_name):
        raise _not_served(model, (ingress.generator_name, ingress.plain_name))
    return Generating(model or name, None, name == ingress.generator_name)


def reranker_of(model: str | None, ingress: IngressConfig) -> str:
    """The generator's name is taken too, as it was before rerankers had one. Raises ApiError."""
    return _one_of(model, (ingress.reranker_name, ingress.generator_name), ingress)


def embedder_of(model: str | None, ingress: IngressConfig) -> str:
    """Raises ApiError."""
    return _one_of(model, (ingress.embedder_name,), ingress)


def _one_of(model: str | None, served: tuple[str, ...], ingress: IngressConfig) -> str:
    if model is not None and _target(model, ingress) not in served:
        raise _not_served(model, served)
    return model or served[0]


def _target(model: str, ingress: IngressConfig) -> str:
    """What an alias stands for: an exact one first, then the first pattern; else the name."""
    aliases = ingress.model_aliases
    if model in aliases:
        return aliases[model]
    for pattern, target in aliases.items():
        if "*" in pattern and re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), model):
            return target
    return model


def _not_served(model: str | None, served: tuple[str, ...]) -> ApiError:
    message = f"model: {(model or '')[:100]!r} is not served here; allowed: {', '.join(served)}"
    return ApiError(404, message, "model", "model_not_found")


@router.get("/v1/models")
async def models(tenant: Tenant, context: ContextDep) -> dict[str, Any]:
    """Of the tenant; a collection is a model of its own."""
    ingress = context.config.ingress
    found = [_model(name, kind) for name, kind in _kinds(ingress).items()]
    names = await _collections(context, tenant)
    found += [_model(f"{ingress.generator_name}@{name}", "chat") for name in names]
    return {"object": "list", "data": found}


@router.get("/v1/models/{model:path}")
async def model(model: str, tenant: Tenant, context: ContextDep) -> dict[str, Any]:
    """One of them, also by an alias."""
    ingress = context.config.ingress
    kinds = _kinds(ingress)
    name = _target(model, ingress)
    own, _, collection = name.partition("@")
    if name in kinds:
        return _model(model, kinds[name])
    if own == ingress.generator_name and collection in await _collections(context, tenant):
        return _model(model, "chat")
    raise _not_served(model, tuple(kinds))


def _kinds(ingress: IngressConfig) -> dict[str, str]:
    return {
        ingress.generator_name: "chat",
        ingress.plain_name: "chat",
        ingress.reranker_name: "rerank",
        ingress.embedder_name: "embedding",
    }


def _model(name: str, kind: str) -> dict[str, Any]:
    """`type` and `capabilities` say what it is for: a reranker is not to be offered for chat."""
    return {
        "id": name,
        "object": "model",
        "created": _STARTED,
        "owned_by": "hyperrag",
        "type": kind,
        "capabilities": {"completion_chat": kind == "chat"},
    }


async def _collections(context: Context, tenant: str) -> list[str]:
    """None where the corpus does not say in time: the models themselves are there."""
    try:
        return await context.services.corpus.collections(tenant, LISTING_TIMEOUT_S)
    except (ActorError, ReplicaLostError) as error:
        _log.warning("collections are not listed: %s", error)
        return []
