"""GET /metrics: the whole cluster for Prometheus, from whichever ingress replica is asked."""

import asyncio
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from actors.errors import ActorError
from cluster.errors import ReplicaLostError
from cluster.ingress.auth import Tenant
from cluster.ingress.context import Context
from cluster.ingress.health import PROBE_TIMEOUT_S, ask_all, ask_store
from cluster.ingress.json_body import json_router
from cluster.ingress.probes import Shared
from cluster.metrics.families import gauge, tabulated
from cluster.metrics.replicas import replica_families
from cluster.metrics.request import merged
from cluster.metrics.store import store_families

router = json_router()

FORMATS: dict[str, dict[str, Any]] = {"text/plain": {}, "application/openmetrics-text": {}}
UP = gauge("up", "part_up", "Whether a part of the service answered this scrape")


class Families(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


@router.get("/metrics", response_class=Response, responses={200: {"content": FORMATS}})
async def metrics(request: Request, tenant: Tenant) -> Response:
    """Of every ingress replica, deployment and node. Totals of all tenants; nothing names one. Who
    asks while another asks has the same answer."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    gathered: Shared[list[Metric]] = request.app.state.families
    families = await gathered.get()
    return Response(encode(Families(families)), headers={"Content-Type": content_type})


def gathering(context: Context) -> Shared[list[Metric]]:
    return Shared(lambda: _families(context))


async def _families(context: Context) -> list[Metric]:
    services = context.services
    states, store, ingresses = await asyncio.gather(
        ask_all(services), ask_store(services.store), _ingresses(context)
    )
    up = {name: not isinstance(state, str) for name, state in states.items()}
    up |= {"store": "epoch" in store, "ingress": ingresses is not None}
    parts = ingresses or [context.instruments.families()]
    return [
        *merged(parts),
        *replica_families(states),
        *(store_families(store) if up["store"] else ()),
        *tabulated((UP,), ("part",), [((name,), {"up": is_up}) for name, is_up in up.items()]),
    ]


async def _ingresses(context: Context) -> list[list[Metric]] | None:
    """Of every ingress replica; None when not all of them answer."""
    try:
        return await context.services.ingress.families(PROBE_TIMEOUT_S)
    except (ActorError, ReplicaLostError):
        return None
