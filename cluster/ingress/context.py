"""What every endpoint needs: settings, services, and the request's own id."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from fastapi import Depends, Request

from actors.messages import Document
from cluster.config import HyperRagConfig
from cluster.ingress.door import Keys
from cluster.metrics.request import Instruments
from cluster.pipeline import Pipeline
from cluster.services import Services
from cluster.usage import Usage

ParseUpload = Callable[[str, bytes, int], list[Document]]
"""(file name, content, largest document in bytes) -> documents; raises RequestError."""


@dataclass(frozen=True, slots=True)
class Context:
    config: HyperRagConfig
    services: Services
    keys: Keys
    parse_upload: ParseUpload
    instruments: Instruments
    usage: Usage = field(default_factory=Usage)
    """Of the request that this is for."""

    @property
    def pipeline(self) -> Pipeline:
        timeout_s = self.config.ingress.request_timeout_s
        return Pipeline(self.services, self.config.reranker.dense_weight, timeout_s, self.usage)


def context(request: Request) -> Context:
    found: Any = request.app.state.context
    assert isinstance(found, Context)
    return replace(found, usage=request.state.usage)


def request_id(request: Request) -> str:
    return str(request.state.request_id)


ContextDep = Annotated[Context, Depends(context)]
RequestId = Annotated[str, Depends(request_id)]
