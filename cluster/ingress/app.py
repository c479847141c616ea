"""The ASGI application: all endpoints, behind limits, behind the door, inside the envelope."""

from fastapi import FastAPI
from starlette.types import ASGIApp

from cluster.ingress import (
    chat,
    completions,
    documents,
    errors,
    health,
    maintenance,
    metrics,
    rag,
    rerank,
)
from cluster.ingress.context import Context
from cluster.ingress.cors import Cors
from cluster.ingress.door import Door
from cluster.ingress.envelope import Envelope, JsonErrors
from cluster.ingress.limits import Admission, BodyLimit


def create_app(context: Context, echo_request_id: bool = True) -> ASGIApp:
    """`echo_request_id`: answer with X-Request-Id; Serve's proxy does that by itself."""
    app = FastAPI(title="HyperRAG")
    app.state.context = context
    app.state.readiness = health.readiness(context.services)
    app.state.families = metrics.gathering(context)
    for part in (chat, completions, rag, rerank, documents, health, maintenance, metrics):
        app.include_router(part.router)
    errors.install(app)
    ingress = context.config.ingress
    limited = Admission(BodyLimit(app, ingress), ingress.max_queued_requests)
    answering: ASGIApp = JsonErrors(Door(limited, ingress, context.keys))
    if ingress.cors_origins:
        answering = Cors(answering, ingress)
    return Envelope(answering, context.instruments, echo_request_id)
