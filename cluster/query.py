"""What goes into the pipeline and what comes out of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from actors.messages import (
    CacheReport,
    Cut,
    FinishReason,
    Message,
    Passage,
    Sampling,
    TemplateKwargs,
    TokenLogprob,
)


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Where to look, and how many: `top_n` passages are found and reranked, `top_k` are used."""

    collection: str
    question: str
    top_n: int
    top_k: int
    passage_tokens: int
    """Of the longest passage of the collection."""
    history_turns: int
    """So many of the user's last turns are searched for, the question the last of them."""
    earlier: tuple[str, ...] = ()
    """Those turns that stand before the question, oldest first."""
    field: str = "question"
    """The client's, which holds the question."""
    num_chars: int = 0
    """Of the whole question, where `question` is an excerpt."""


@dataclass(frozen=True, slots=True)
class Query:
    request_id: str
    tenant: str
    retrieval: Retrieval | None
    """None: the generator answers without passages."""
    messages: tuple[Message, ...]
    """A conversation; the oldest exchanges are left out where it is too long."""
    sampling: Sampling
    raw_prompt: str | None = None
    chat_template_kwargs: TemplateKwargs = ()
    num_left_out: int = 0
    """Messages of it that have been left out already."""
    num_choices: int = 1
    """So many answers, each drawn by itself."""


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
class Truncated:
    """What was not used whole."""

    messages: int = 0
    """Oldest ones of the conversation that were left out."""
    passages: tuple[Cut, ...] = ()
    """By their place among the sources."""
    documents: tuple[Cut, ...] = ()
    """Texts to rank, by their place in the request."""
    question: tuple[int, int] | None = None
    """Its characters, and those of the excerpt that was searched for; it is answered whole."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What was found and reranked, best first; nothing was generated."""

    sources: tuple[Source, ...]
    timings_ms: Mapping[str, float]
    """By stage: search, rerank, total."""
    cache: Mapping[str, CacheReport]
    """By stage: rerank."""
    truncated: Truncated = Truncated()


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    index: int = 0
    """Of the choice."""
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of several."""

    text: str
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole, after its pieces. Milliseconds by stage: search, rerank, generate, ttft, total."""

    choices: tuple[Choice, ...]
    sources: tuple[Source, ...]
    timings_ms: Mapping[str, float]
    cache: Mapping[str, CacheReport]
    """By stage: rerank, generate; and their total."""
    prompt_tokens: int
    completion_tokens: int
    """Of all choices."""
    truncated: Truncated = Truncated()

    @property
    def text(self) -> str:
        return self.choices[0].text

    @property
    def finish_reason(self) -> FinishReason:
        return self.choices[0].finish_reason
