"""Records of the pipeline as JSON, the same for every endpoint."""

from dataclasses import asdict
from typing import Any

from actors.messages import Cut
from cluster.query import Answer, Candidates, Source, Truncated


def source_json(source: Source) -> dict[str, Any]:
    passage = source.passage
    return {
        "document_id": passage.document_id,
        "ordinal": passage.ordinal,
        "start": passage.start,
        "end": passage.end,
        "text": passage.text,
        "metadata": passage.metadata,
        "score": source.score,
        "cosine": source.cosine,
        "log_likelihood": source.log_likelihood,
    }


def report_json(answer: Answer | Candidates) -> dict[str, Any]:
    """Sources, milliseconds and cache reports by stage, and what was not used whole."""
    return {
        "sources": [source_json(source) for source in answer.sources],
        "timings_ms": dict(answer.timings_ms),
        "cache": {stage: asdict(report) for stage, report in answer.cache.items()},
        "truncated": truncated_json(answer.truncated),
    }


def truncated_json(truncated: Truncated) -> dict[str, Any]:
    """Empty where all was used whole."""
    shown: dict[str, Any] = {
        "messages": truncated.messages,
        "passages": [cut_json(cut) for cut in truncated.passages],
        "documents": [cut_json(cut) for cut in truncated.documents],
    }
    if truncated.question:
        chars, kept = truncated.question
        shown["question"] = {"chars": chars, "kept_chars": kept}
    return {name: value for name, value in shown.items() if value}


def cut_json(cut: Cut) -> dict[str, int]:
    return {"index": cut.index, "tokens": cut.num_tokens, "kept_tokens": cut.num_kept}


def usage_json(answer: Answer) -> dict[str, int]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }
