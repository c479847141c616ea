"""What goes into the pipeline and what comes out of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from actors.messages import CacheReport, FinishReason, Message, Passage, Sampling, TemplateKwargs


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Where to look, and how many: `top_n` passages are found and reranked, `top_k` are used."""

    collection: str
    question: str
    top_n: int
    top_k: int


@dataclass(frozen=True, slots=True)
class Query:
    request_id: str
    tenant: str
    retrieval: Retrieval | None
    """None: the generator answers without passages."""
    messages: tuple[Message, ...]
    sampling: Sampling
    raw_prompt: str | None = None
    chat_template_kwargs: TemplateKwargs = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that was used, in the order of `score`."""

    passage: Passage
    cosine: float
    log_likelihood: float
    """Of the question; with another scoring rule, its score."""
    score: float
    """log_likelihood + dense_weight x cosine."""
    neighbours: bytes = b""
    """See `Found`."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What was found and reranked, best first; nothing was generated."""

    sources: tuple[Source, ...]
    timings_ms: Mapping[str, float]
    """By stage: search, rerank, total."""
    cache: Mapping[str, CacheReport]
    """By stage: rerank."""


@dataclass(frozen=True, slots=True)
class Piece:
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole, after its pieces. Milliseconds by stage: search, rerank, generate, ttft, total."""

    text: str
    finish_reason: FinishReason
    sources: tuple[Source, ...]
    timings_ms: Mapping[str, float]
    cache: Mapping[str, CacheReport]
    """By stage: rerank, generate; and their total."""
    prompt_tokens: int
    completion_tokens: int
