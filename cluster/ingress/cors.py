"""Which pages of other origins may call, as browsers ask before they let them."""

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from cluster.ingress.config import IngressConfig
from cluster.ingress.errors import ApiError

_METHODS = ("GET", "HEAD", "POST", "DELETE")
_EXPOSED = ("X-Request-Id", "Retry-After", "traceresponse")


class Cors(CORSMiddleware):
    """Starlette's, whose refusals are JSON. Keys travel in a header, so no page gets credentials
    of the browser's."""

    def __init__(self, app: ASGIApp, config: IngressConfig) -> None:
        super().__init__(
            app,
            allow_origins=config.cors_origins,
            allow_methods=_METHODS,
            allow_headers=("*",),
            allow_private_network=True,
            expose_headers=_EXPOSED,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200:
            return answer
        asked = f"{bytes(answer.body).decode()}: {request_headers['origin'][:100]!r}"
        error = ApiError(403, f"{asked}; see ingress.cors_origins", "Origin", "origin_not_allowed")
        return JSONResponse(error.body(), 403, headers=self.preflight_headers)
