"""What every endpoint needs: settings, services, and the request's own id."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from fastapi import Depends, Request

from actors.messages import Document
from cluster.config import HyperRagConfig
from cluster.deadline import Limits
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
    arrived: float = field(default_factory=time.monotonic)
    """When its first byte was there."""

    @property
    def limits(self) -> Limits:
        return Limits(self.config.ingress, self.arrived)

    @property
    def pipeline(self) -> Pipeline:
        weight = self.config.reranker.dense_weight
        return Pipeline(self.services, weight, self.limits, self.usage)


def context(request: Request) -> Context:
    found: Any = request.app.state.context
    assert isinstance(found, Context)
    return replace(found, usage=request.state.usage, arrived=request.state.arrived)


def request_id(request: Request) -> str:
    return str(request.state.request_id)


ContextDep = Annotated[Context, Depends(context)]
RequestId = Annotated[str, Depends(request_id)]
