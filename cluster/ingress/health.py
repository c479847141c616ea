"""Probes, the version, and the state of the whole."""

import asyncio
from collections import Counter
from importlib.metadata import version as installed_version
from typing import Any

from fastapi import Request
from starlette.responses import JSONResponse

from actors.errors import ActorError
from cluster.errors import ReplicaLostError
from cluster.ingress.auth import Admin, Tenant
from cluster.ingress.context import ContextDep
from cluster.ingress.errors import ApiError
from cluster.ingress.json_body import json_router
from cluster.ingress.probes import Shared
from cluster.services import Deployment, Services, Status, StoreService
from kvstore.types import STORE_TIERS

router = json_router()

PROBE_TIMEOUT_S = 5.0
READY_FOR_S = 1.0
"""How long an answer to `/readyz` is given again."""
States = dict[str, list[Status] | str]
"""By deployment: an entry per replica, or why there is none."""


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}


@router.get("/health")
@router.get("/readyz")
async def ready(request: Request) -> JSONResponse:
    """Every deployment answers, or has within the last second."""
    states = await _readiness(request).get()
    failed = {name: state for name, state in states.items() if isinstance(state, str)}
    if failed:
        reason = "; ".join(f"{name}: {state}" for name, state in failed.items())
        raise ApiError(503, f"not ready: {reason}", code="not_ready", retry_after_s=2.0)
    return JSONResponse({"status": "ready", "deployments": dict.fromkeys(states, "ok")})


@router.get("/version")
async def version(tenant: Tenant) -> dict[str, str]:
    return {"version": installed_version("hyperrag")}


@router.get("/v1/status")
async def status(admin: Admin, context: ContextDep) -> dict[str, Any]:
    """Deployments, nodes of the store and its tiers, and how often segments were found."""
    states, store = await asyncio.gather(
        ask_all(context.services), ask_store(context.services.store)
    )
    return {
        "deployments": {name: _deployment(state) for name, state in states.items()},
        "store": store,
        "tiers": _tiers(store),
        "hit_rates": {
            name: _hit_rate(state)
            for name, state in states.items()
            if name in ("reranker", "generator") and not isinstance(state, str)
        },
    }


def readiness(services: Services) -> Shared[States]:
    return Shared(lambda: ask_all(services), READY_FOR_S)


def _readiness(request: Request) -> Shared[States]:
    found: Shared[States] = request.app.state.readiness
    return found


async def ask_all(services: Services) -> States:
    named = services.by_name()
    states = await asyncio.gather(*(_one(service) for service in named.values()))
    return dict(zip(named, states, strict=True))


async def _one(service: Deployment) -> list[Status] | str:
    try:
        return await service.status(PROBE_TIMEOUT_S)
    except (ActorError, ReplicaLostError) as error:
        return str(error)


def _deployment(state: list[Status] | str) -> dict[str, Any]:
    if isinstance(state, str):
        return {"status": "unavailable", "reason": state, "replicas": []}
    return {"status": "ok", "replicas": state}


async def ask_store(service: StoreService) -> Status:
    try:
        return await service.status(PROBE_TIMEOUT_S)
    except ActorError as error:
        return {"status": "unavailable", "reason": str(error), "nodes": []}


def _tiers(store: Status) -> dict[str, dict[str, int]]:
    """The figures of the store's tiers, over all nodes."""
    found: dict[str, Counter[str]] = {}
    for node in store["nodes"]:
        own = node["store"] if isinstance(node["store"], dict) else {}
        for name in own.keys() & set(STORE_TIERS):
            figures = {key: value for key, value in own[name].items() if isinstance(value, int)}
            found.setdefault(name, Counter()).update(figures)
    return {name: dict(found[name]) for name in STORE_TIERS if name in found}


def _hit_rate(replicas: list[Status]) -> float | None:
    """Share of the segments asked for that were found, since start; None before the first."""
    hits = sum(replica.get("segment_hits", 0) for replica in replicas)
    asked = hits + sum(replica.get("segments_computed", 0) for replica in replicas)
    return round(hits / asked, 4) if asked else None
