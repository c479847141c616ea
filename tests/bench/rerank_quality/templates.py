"""Other prompts than the default, over the first questions."""

import copy
from dataclasses import replace
from typing import Any

from actors.engine.config import PromptConfig, RerankerConfig
from actors.engine.prompt import Prompt
from tests.bench.engines import Bench
from tests.bench.pool import Pool
from tests.bench.ranking import Floats, row

NUM_QUESTIONS = 80

_DEFAULT = PromptConfig()
_TEMPLATES = {
    "chat, the model's own system message": replace(_DEFAULT, system=""),
    "chat, no instruction": replace(_DEFAULT, rerank_instruction=""),
    "plain, instruction": replace(_DEFAULT, system=""),
    "plain, no instruction": replace(_DEFAULT, system="", rerank_instruction=""),
}


def other_templates(parts: Bench, pool: Pool, default: Floats) -> list[dict[str, Any]]:
    few = pool.head(NUM_QUESTIONS)
    weight = RerankerConfig().dense_weight
    scores = {"default": default[:NUM_QUESTIONS]}
    for name in _TEMPLATES:
        scores[name] = few.rerank(parts.reranker(prompt=_prompt(parts, name)), name)
    rows = []
    for name, found in scores.items():
        about = f"(first {len(found)})"
        rows.append(row(f"{name} {about}", few.right, found))
        fused = found + weight * few.cosine
        rows.append(row(f"{name}, + {weight} x cosine {about}", few.right, fused))
    return rows


def _prompt(parts: Bench, template: str) -> Prompt:
    """A plain one stands outside the model's chat template."""
    tokenizer = parts.tokenizer
    if template.startswith("plain"):
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.chat_template = None
    return Prompt(tokenizer, _TEMPLATES[template])
