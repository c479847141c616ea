"""Reranking for clients of vLLM, Jina, Cohere, Voyage, Pinecone, Infinity, TEI, NVIDIA and Isaacus,
on the paths that each of them calls.

The bare list of TEI is the answer iff the request has `texts`. Any other answer on the paths of
`rerank` has the fields of all: `results` with `relevance_score`, and `data` with the same numbers
under the names of Voyage and Pinecone. Scores lie in [0, 1]: the mean probability of the question's
tokens given the document, or with another scoring rule that of a yes; with `raw_scores` their
logarithm, or their logit. A document longer than a passage has the score of its best passage.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp, tanh
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import Response
from starlette.responses import JSONResponse

from actors.messages import RerankResult, Scale
from cluster.ingress.auth import Tenant
from cluster.ingress.context import Context, ContextDep, RequestId
from cluster.ingress.errors import invalid
from cluster.ingress.json_body import json_router
from cluster.ingress.models import reranker_of
from cluster.ingress.render import truncated_json
from cluster.ingress.rerank_body import RerankBody, Sent
from cluster.query import Truncated

router = json_router()


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a request asked for, best first."""

    model: str
    scored: list[tuple[int, float]]
    """Place in the request, and the score that was asked for."""
    result: RerankResult


@dataclass(frozen=True, slots=True)
class Reranker:
    """Ranks for one request."""

    context: Context
    tenant: str
    request_id: str

    async def rank(self, body: RerankBody, raw_scores: bool = False) -> Ranking:
        """Raises ApiError, and the errors of `actors.errors`."""
        config = self.context.config
        model = reranker_of(body.model, config.ingress)
        texts, most = body.to_rank(config.reranker.max_candidates), body.num_results
        result = await self.score(body.query, texts, body.max_tokens_per_doc)
        ranked = sorted(enumerate(result.log_likelihoods), key=lambda pair: -pair[1])[:most]
        raw = raw_scores or body.raw_scores
        scored = [(i, score if raw else relevance(score, result.scale)) for i, score in ranked]
        return Ranking(model, scored, result)

    async def score(
        self, query: str, texts: Sequence[str], max_document_tokens: int | None
    ) -> RerankResult:
        limit = self.context.config.ingress.max_question_chars
        if len(query) > limit:
            raise invalid("query", f"has {len(query)} characters, at most {limit} are allowed")
        return await self.context.pipeline.rerank(
            self.request_id, self.tenant, query, texts, max_document_tokens
        )


def _reranker(tenant: Tenant, context: ContextDep, request_id: RequestId) -> Reranker:
    return Reranker(context, tenant, request_id)


RerankerDep = Annotated[Reranker, Depends(_reranker)]


@router.post("/rerank")
@router.post("/v1/rerank")
@router.post("/v2/rerank")
@router.post("/v1/v1/rerank")
@router.post("/v1/v2/rerank")
async def rerank(body: RerankBody, request: Request, reranker: RerankerDep) -> Response:
    tei = request.state.tei = body.texts is not None
    ranking = await reranker.rank(body)
    if tei:
        return JSONResponse([_tei(body, i, score) for i, score in ranking.scored])
    num_tokens = ranking.result.num_tokens
    return JSONResponse(
        {
            "id": f"rerank-{reranker.request_id}",
            "object": "rerank",
            "model": ranking.model,
            "results": [_result(body, i, score) for i, score in ranking.scored],
            "data": [_datum(body, i, score) for i, score in ranking.scored],
            "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
            "meta": {"api_version": {"version": "2" if "v2" in request.url.path else "1"}},
            "hyperrag": {
                "cache": asdict(ranking.result.cache),
                "ms": round(ranking.result.seconds * 1000, 3),
                "truncated": truncated_json(Truncated(documents=ranking.result.cuts)),
            },
        }
    )


@router.post("/v1/ranking")
async def nvidia(body: RerankBody, reranker: RerankerDep) -> dict[str, Any]:
    """The form of NVIDIA's NIM, whose logits are the scores as the reranker gives them."""
    ranking = await reranker.rank(body, raw_scores=True)
    return {"rankings": [{"index": i, "logit": score} for i, score in ranking.scored]}


@router.post("/v1/rerankings")
async def isaacus(body: RerankBody, reranker: RerankerDep) -> dict[str, Any]:
    """The form of Isaacus."""
    ranking = await reranker.rank(body)
    return {
        "results": [{"index": i, "score": score} for i, score in ranking.scored],
        "usage": {"input_tokens": ranking.result.num_tokens},
    }


def relevance(score: float, scale: Scale) -> float:
    """The score between 0 and 1."""
    if scale == "log_probability":
        return exp(min(0.0, score))
    return (1 + tanh(score / 2)) / 2  # the logistic function, without overflow


def _result(body: RerankBody, index: int, score: float) -> dict[str, Any]:
    """Infinity's clients, which alone send `raw_scores` with `documents`, get a document as they
    sent it; the others get an object."""
    shown = {"document": _shown(body, index)} if body.return_documents else {}
    return {"index": index, "relevance_score": score, **shown}


def _shown(body: RerankBody, index: int) -> Sent:
    document = body.sent[index]
    if isinstance(document, dict) or "raw_scores" in body.model_fields_set:
        return document
    return {"text": document}


def _datum(body: RerankBody, index: int, score: float) -> dict[str, Any]:
    """Documents only where they were asked for: `results` has them otherwise."""
    asked = body.return_documents and "return_documents" in body.model_fields_set
    shown = {"document": body.sent[index]} if asked else {}
    return {"index": index, "relevance_score": score, "score": score, **shown}


def _tei(body: RerankBody, index: int, score: float) -> dict[str, Any]:
    document = body.sent[index]
    text = document if isinstance(document, str) else document.get("text")
    return {"index": index, "score": score, **({"text": text} if body.return_text else {})}
