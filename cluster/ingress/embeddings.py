"""POST /v1/embeddings: vectors of the model that passages and questions are searched by."""

import base64
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from actors.texts import EmbedRequest
from cluster.ingress.auth import Tenant
from cluster.ingress.context import ContextDep
from cluster.ingress.errors import invalid
from cluster.ingress.json_body import json_router
from cluster.ingress.models import embedder_of
from cluster.ingress.render import truncated_json
from cluster.ingress.rerank_body import MAX_BYTES
from cluster.ingress.schemas import Body, Text, without_neutral
from cluster.query import Truncated

router = json_router()

MAX_INPUTS = 2048
_NEUTRAL: dict[str, tuple[Any, ...]] = {"output_dtype": ("float",), "embedding_type": ("float",)}
"""Fields without an effect here, and the values that ask for none."""
Ids = list[int]


class EmbeddingsBody(Body):
    ignored: ClassVar[frozenset[str] | None] = frozenset(
        ("input_type", "task", "truncate", "truncation", "user")
    )
    input: Text | Ids | list[Text] | list[Ids] = Field(
        description="a text or ids of the embedder's own tokenizer, or a list of either"
    )
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, description="those of the model, if any")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, data: Any) -> Any:
        return without_neutral(data, _NEUTRAL)

    def inputs(self) -> tuple[str | tuple[int, ...], ...]:
        """Raises ApiError."""
        given: Any = self.input
        single = isinstance(given, str) or (given and isinstance(given[0], int))
        listed = [given] if single else given
        inputs = tuple(item if isinstance(item, str) else tuple(item) for item in listed)
        if not 1 <= len(inputs) <= MAX_INPUTS:
            raise invalid("input", f"has {len(inputs)} entries; 1 to {MAX_INPUTS} are allowed")
        for i, item in enumerate(inputs):
            if not item:
                raise invalid("input" if len(inputs) == 1 else f"input[{i}]", "must not be empty")
        size = sum(len(i.encode()) if isinstance(i, str) else 4 * len(i) for i in inputs)
        if size > MAX_BYTES:
            raise invalid("input", f"has {size} bytes of text, at most {MAX_BYTES} are allowed")
        return inputs


@router.post("/v1/embeddings")
async def embeddings(body: EmbeddingsBody, tenant: Tenant, context: ContextDep) -> dict[str, Any]:
    model = embedder_of(body.model, context.config.ingress)
    request = EmbedRequest(body.inputs(), context.limits.request().left_s())
    result = await context.services.retriever.embed(request)
    dim = result.vectors.shape[1]
    if body.dimensions not in (None, dim):
        raise invalid("dimensions", f"is {body.dimensions}; this model's vectors have {dim}")
    context.usage.prompt_tokens = result.num_tokens
    rows = result.vectors.astype("<f4")
    shown: list[Any] = (
        [base64.b64encode(row.tobytes()).decode() for row in rows]
        if body.encoding_format == "base64"
        else rows.tolist()
    )
    return {
        "object": "list",
        "model": model,
        "data": [
            {"object": "embedding", "index": i, "embedding": vector}
            for i, vector in enumerate(shown)
        ],
        "usage": {"prompt_tokens": result.num_tokens, "total_tokens": result.num_tokens},
        "hyperrag": {"truncated": truncated_json(Truncated(documents=result.cuts))},
    }
