"""What the service answers, as typed records. Unknown fields of a newer service are ignored."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from actors.messages import CacheReport, DocumentInfo

__all__ = [
    "Answer",
    "CacheReport",
    "Candidates",
    "DocumentInfo",
    "IngestReport",
    "Ranked",
    "Ranking",
    "Source",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """Characters [start, end) of a document, as handed to the generator."""

    document_id: str
    ordinal: int
    start: int
    end: int
    text: str
    score: float
    """What the sources are ordered by: log_likelihood + weight x cosine."""
    cosine: float
    log_likelihood: float | None
    """Of the question given the text; with another scoring rule, its score."""


@dataclass(frozen=True, slots=True)
class Answer:
    id: str
    answer: str
    finish_reason: str | None
    sources: tuple[Source, ...]
    timings_ms: dict[str, float]
    """search, rerank, generate, ttft, total."""
    cache: dict[str, CacheReport]
    """By stage: rerank, generate."""
    usage: dict[str, int]
    truncated: dict[str, Any] = field(default_factory=dict)
    """What was not used whole: `messages`, how many of a conversation's oldest; `passages`, with
    their `index` among the sources, `tokens` and `kept_tokens`."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Best first."""

    id: str
    sources: tuple[Source, ...]
    timings_ms: dict[str, float]
    """search, rerank, total."""
    cache: dict[str, CacheReport]
    """By stage: rerank."""
    truncated: dict[str, Any] = field(default_factory=dict)
    """See Answer."""


@dataclass(frozen=True, slots=True)
class Ranked:
    index: int
    """Into the caller's list of documents."""
    relevance_score: float
    """In [0, 1]: mean probability of the question's tokens given the document, or with another
    scoring rule that of a yes."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Best first."""

    results: tuple[Ranked, ...]
    total_tokens: int
    truncated: dict[str, Any] = field(default_factory=dict)
    """`documents` that were not looked at whole: `index`, `tokens`, `kept_tokens`."""


@dataclass(frozen=True, slots=True)
class IngestReport:
    version: int = 0
    """Corpus version after the last batch."""
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    num_passages: int = 0
    """Passages of the added and updated documents."""

    def __add__(self, later: "IngestReport") -> "IngestReport":
        return IngestReport(
            later.version,
            self.added + later.added,
            self.updated + later.updated,
            self.unchanged + later.unchanged,
            self.num_passages + later.num_passages,
        )


def read(cls: type[T], data: Mapping[str, Any]) -> T:
    """A record from a JSON object. Raises TypeError when a field that has no default is missing."""
    names = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    return cls(**{name: value for name, value in data.items() if name in names})


def read_answer(data: Mapping[str, Any]) -> Answer:
    return read(Answer, _reported(data))


def read_candidates(data: Mapping[str, Any]) -> Candidates:
    return read(Candidates, _reported(data))


def read_ranking(data: Mapping[str, Any]) -> Ranking:
    results = tuple(read(Ranked, result) for result in data["results"])
    total_tokens = int(data.get("usage", {}).get("total_tokens", 0))
    return Ranking(results, total_tokens, dict(data.get("hyperrag", {}).get("truncated", {})))


def _reported(data: Mapping[str, Any]) -> dict[str, Any]:
    """With sources and cache reports as records."""
    sources = tuple(read(Source, source) for source in data["sources"])
    cache = {stage: read(CacheReport, report) for stage, report in data["cache"].items()}
    return {**data, "sources": sources, "cache": cache}
