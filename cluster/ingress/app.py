"""The ASGI application: all endpoints, behind limits, behind the door, inside the envelope."""

from starlette.types import ASGIApp

from cluster.ingress import (
    chat,
    completions,
    documents,
    embeddings,
    errors,
    health,
    maintenance,
    metrics,
    models,
    rag,
    rerank,
    responses,
    score,
    tokenize,
)
from cluster.ingress.context import Context
from cluster.ingress.cors import Cors
from cluster.ingress.description import DescribedApp
from cluster.ingress.door import Door
from cluster.ingress.envelope import Envelope, JsonErrors
from cluster.ingress.lenient import Lenient
from cluster.ingress.limits import Admission, BodyLimit

PARTS = (
    chat,
    responses,
    completions,
    rag,
    rerank,
    score,
    embeddings,
    tokenize,
    models,
    documents,
    health,
    maintenance,
    metrics,
)


def create_app(context: Context, echo_request_id: bool = True) -> ASGIApp:
    """`echo_request_id`: answer with X-Request-Id; Serve's proxy does that by itself."""
    app = DescribedApp(title="HyperRAG", redirect_slashes=False)
    app.state.context = context
    app.state.readiness = health.readiness(context.services)
    app.state.families = metrics.gathering(context)
    for part in PARTS:
        app.include_router(part.router)
    errors.install(app)
    ingress = context.config.ingress
    limited = Admission(BodyLimit(app, ingress), context.config)
    answering: ASGIApp = JsonErrors(Door(limited, ingress, context.keys))
    if ingress.cors_origins:
        answering = Cors(answering, ingress)
    return Envelope(Lenient(answering), context.instruments, echo_request_id)
