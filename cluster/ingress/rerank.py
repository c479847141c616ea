"""Reranking for clients of vLLM, Jina, Cohere and TEI, on the paths that each of them calls.

The bare list of TEI is the answer iff the request has `texts`. Scores lie in [0, 1]: the mean
probability of the question's tokens given the document, or with another scoring rule that of a
yes; with `raw_scores` their logarithm, or their logit. A document longer than a passage has the
score of its best passage.
"""

from dataclasses import asdict
from math import exp, tanh
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BeforeValidator, Field, field_validator
from pydantic_core import PydanticCustomError
from starlette.responses import JSONResponse

from actors.messages import Scale
from cluster.ingress.auth import Tenant
from cluster.ingress.context import ContextDep, RequestId
from cluster.ingress.errors import invalid
from cluster.ingress.render import truncated_json
from cluster.ingress.schemas import Body, Text, check_model
from cluster.query import Truncated

router = APIRouter()

MAX_BYTES = 4_000_000
"""Of all documents of a request: they are tokenized in one go, while others wait."""


def _plain_texts(value: Any) -> Any:
    """Strings, or objects with a `text`; a single one stands for a list of one."""
    if isinstance(value, (str, dict)):
        value = [value]
    if not isinstance(value, list):
        raise PydanticCustomError("documents", 'must be a list of texts or of {{"text": ...}}')
    texts = [item.get("text") if isinstance(item, dict) else item for item in value]
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise PydanticCustomError(
                "documents", "[{i}] must be a text or an object with a `text`", {"i": i}
            )
    return texts


Texts = Annotated[list[Text], BeforeValidator(_plain_texts)]


class RerankBody(Body):
    ignored: ClassVar[frozenset[str] | None] = None
    query: Text
    documents: Texts | None = None
    texts: Texts | None = None
    model: str | None = None
    top_n: int = Field(0, ge=0, description="0: all")
    return_documents: bool = True
    return_text: bool = False
    raw_scores: bool = False
    max_tokens_per_doc: int | None = Field(None, ge=1, description="longer documents are cut")

    @field_validator("query")
    @classmethod
    def _not_empty(cls, query: str) -> str:
        if not query.strip():
            raise ValueError("must not be empty")
        return query


@router.post("/rerank")
@router.post("/v1/rerank")
@router.post("/v2/rerank")
@router.post("/v1/v2/rerank")
async def rerank(
    body: RerankBody, request: Request, tenant: Tenant, context: ContextDep, request_id: RequestId
) -> Response:
    tei = request.state.tei = body.texts is not None
    config = context.config
    names = (config.ingress.reranker_name, config.ingress.generator_name)
    model = check_model(body.model, *names)
    texts = _texts(body, config.reranker.max_candidates)
    if len(body.query) > config.ingress.max_question_chars:
        limit = config.ingress.max_question_chars
        raise invalid("query", f"has {len(body.query)} characters, at most {limit} are allowed")
    most = body.max_tokens_per_doc
    result = await context.pipeline.rerank(request_id, tenant, body.query, texts, most)
    ranked = sorted(enumerate(result.log_likelihoods), key=lambda pair: -pair[1])
    ranked = ranked[: body.top_n] if body.top_n else ranked
    scored = [(i, s if body.raw_scores else relevance(s, result.scale)) for i, s in ranked]
    if tei:
        return JSONResponse([_tei(i, s, texts[i] if body.return_text else None) for i, s in scored])
    show = body.return_documents
    return JSONResponse(
        {
            "id": f"rerank-{request_id}",
            "object": "rerank",
            "model": model,
            "results": [_result(i, score, texts[i] if show else None) for i, score in scored],
            "usage": {"prompt_tokens": result.num_tokens, "total_tokens": result.num_tokens},
            "meta": {"api_version": {"version": "2" if "v2" in request.url.path else "1"}},
            "hyperrag": {
                "cache": asdict(result.cache),
                "ms": round(result.seconds * 1000, 3),
                "truncated": truncated_json(Truncated(documents=result.cuts)),
            },
        }
    )


def relevance(score: float, scale: Scale) -> float:
    """The score between 0 and 1."""
    if scale == "log_probability":
        return exp(min(0.0, score))
    return (1 + tanh(score / 2)) / 2  # the logistic function, without overflow


def _texts(body: RerankBody, max_candidates: int) -> list[str]:
    name = "documents" if body.texts is None else "texts"
    texts = body.documents if body.texts is None else body.texts
    if not texts:
        raise invalid(name, f"is needed: 1 to {max_candidates} texts to rank")
    if len(texts) > max_candidates:
        raise invalid(name, f"has {len(texts)} entries, at most {max_candidates} are allowed")
    if (size := sum(len(text.encode()) for text in texts)) > MAX_BYTES:
        raise invalid(name, f"has {size} bytes of text, at most {MAX_BYTES} are allowed")
    return texts


def _result(index: int, score: float, text: str | None) -> dict[str, Any]:
    document = {} if text is None else {"document": {"text": text}}
    return {"index": index, "relevance_score": score, **document}


def _tei(index: int, score: float, text: str | None) -> dict[str, Any]:
    return {"index": index, "score": score, **({} if text is None else {"text": text})}
