"""POST /v1/score, as vLLM has it: how well texts answer texts, pair by pair, in their order."""

import asyncio
import time
from collections import defaultdict
from typing import Any, ClassVar

from cluster.ingress.errors import invalid
from cluster.ingress.json_body import json_router
from cluster.ingress.models import reranker_of
from cluster.ingress.rerank import RerankerDep, relevance
from cluster.ingress.rerank_body import HARMLESS, Documents, ranked_text
from cluster.ingress.schemas import Body

router = json_router()

_AT_ONCE = 8
"""Questions of one request that wait for the reranker."""


class ScoreBody(Body):
    ignored: ClassVar[frozenset[str] | None] = HARMLESS
    text_1: Documents
    text_2: Documents
    model: str | None = None

    def pairs(self, most: int) -> list[tuple[str, str]]:
        """A single first text is paired with all second ones. Raises ApiError."""
        firsts = [ranked_text(t, (), f"text_1[{i}]") for i, t in enumerate(self.text_1)]
        seconds = [ranked_text(t, (), f"text_2[{i}]") for i, t in enumerate(self.text_2)]
        if len(firsts) == 1:
            firsts *= len(seconds)
        if len(firsts) != len(seconds):
            counts = f"{len(firsts)} and {len(seconds)}"
            raise invalid("text_2", f"must have as many texts as text_1, or text_1 one: {counts}")
        if not 1 <= len(seconds) <= most:
            raise invalid("text_2", f"has {len(seconds)} texts; 1 to {most} are allowed")
        return list(zip(firsts, seconds, strict=True))


@router.post("/score")
@router.post("/v1/score")
async def score(body: ScoreBody, reranker: RerankerDep) -> dict[str, Any]:
    config = reranker.context.config
    model = reranker_of(body.model, config.ingress)
    pairs = body.pairs(config.reranker.max_candidates)
    by_query = defaultdict[str, list[int]](list)
    for place, (query, _) in enumerate(pairs):
        by_query[query].append(place)
    scores, num_tokens = [0.0] * len(pairs), 0
    asked = list(by_query.items())
    for start in range(0, len(asked), _AT_ONCE):
        some = asked[start : start + _AT_ONCE]
        calls = (reranker.score(q, [pairs[i][1] for i in places], None) for q, places in some)
        for (_, places), result in zip(some, await asyncio.gather(*calls), strict=True):
            num_tokens += result.num_tokens
            for place, raw in zip(places, result.log_likelihoods, strict=True):
                scores[place] = relevance(raw, result.scale)
    return {
        "id": f"score-{reranker.request_id}",
        "object": "list",
        "created": int(time.time()),
        "model": model,
        "data": [{"index": i, "object": "score", "score": s} for i, s in enumerate(scores)],
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }
