"""What travels between the ingress and the deployments: frozen records, no tensors.

Durations are seconds that are left (`timeout_s`), never points in time: clocks differ by node.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

FinishReason = Literal["stop", "length", "error"]
Role = Literal["system", "user", "assistant", "tool"]
GeneratorMode = Literal["full", "prefix", "fusion"]
Scale = Literal["log_probability", "logit"]
"""Of a score: its `exp`, or its logistic function, lies between 0 and 1."""
TemplateKwargs = tuple[tuple[str, bool | int | float | str], ...]
"""Variables of the chat template that a request sets, by name."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a user hands in. `id` is unique in its collection."""

    id: str
    text: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passage:
    """Characters [start, end) of a document: the unit of retrieval and of reranking."""

    document_id: str
    ordinal: int
    text: str
    start: int
    end: int
    num_tokens: int
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    passage: Passage
    score: float
    """Cosine similarity with the question."""
    neighbours: bytes = b""
    """Digest of the neighbours that the passage's fused segment was made in sight of; empty where
    it has none."""


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """A passage, and the passages nearest to it, nearest first."""

    text: str
    neighbours: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NeighbourhoodPage:
    """Of passages by document id and ordinal; `next_after` continues, None at the end."""

    neighbourhoods: tuple[Neighbourhood, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class FusedSegment:
    """Of a passage, made in sight of neighbours with this digest."""

    text: str
    neighbours: bytes


@dataclass(frozen=True, slots=True)
class RecordResult:
    version: int
    replaced: tuple[FusedSegment, ...]
    """What the collection no longer names: these can go."""


@dataclass(frozen=True, slots=True)
class SearchRequest:
    tenant: str
    collection: str
    query: str
    top_n: int
    timeout_s: float
    earlier: tuple[str, ...] = ()
    """The user's turns before the query, oldest first. The query is searched for by itself and
    behind them, as far as the embedder reads."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    version: int
    """Corpus version that was searched; 0 when the collection does not exist."""
    found: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class IngestResult:
    version: int
    added: int
    updated: int
    unchanged: int
    num_passages: int
    """Passages of the added and updated documents."""
    replaced: tuple[str, ...]
    """Texts of passages that no longer exist: their segments can go."""
    fused: tuple[FusedSegment, ...] = ()
    """Made from or in sight of such texts: these can go as well."""


@dataclass(frozen=True, slots=True)
class DeleteResult:
    version: int
    deleted: tuple[str, ...]
    missing: tuple[str, ...]
    removed: tuple[str, ...]
    """Texts of the passages that went: their segments can go."""
    fused: tuple[FusedSegment, ...] = ()
    """Made from or in sight of such texts: these can go as well."""


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    id: str
    num_chars: int
    num_passages: int
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """Sorted by id; `next_after` continues the listing, None at its end."""

    version: int
    total: int
    documents: tuple[DocumentInfo, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class PassagePage:
    """By document id and ordinal; `next_after` (opaque) continues, None at the end."""

    version: int
    total: int
    """Passages of the whole collection."""
    passages: tuple[Passage, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class CacheReport:
    """What reuse did for one request or stage."""

    device_hits: int = 0
    """Segments that the engine had kept: the store was not asked for them."""
    dram_hits: int = 0
    ssd_hits: int = 0
    peer_hits: int = 0
    """Fetched from another node."""
    remote_hits: int = 0
    computed: int = 0
    """Segments that were missing and had to be computed."""
    tokens_reused: int = 0
    tokens_computed: int = 0
    bytes_moved: int = 0
    """Bytes of KV that the store handed out, from whichever tier."""
    store: Literal["used", "off", "unavailable"] = "used"
    mode: GeneratorMode | None = None
    """How the prompt of a generation was prefilled."""
    reason: str = ""
    """Why, where that was chosen for this request."""

    @property
    def hits(self) -> int:
        """Segments that were not computed, wherever they were found."""
        here = self.device_hits + self.dram_hits + self.ssd_hits
        return here + self.peer_hits + self.remote_hits

    def __add__(self, other: "CacheReport") -> "CacheReport":
        worst = {"used": 0, "off": 1, "unavailable": 2}
        return CacheReport(
            self.device_hits + other.device_hits,
            self.dram_hits + other.dram_hits,
            self.ssd_hits + other.ssd_hits,
            self.peer_hits + other.peer_hits,
            self.remote_hits + other.remote_hits,
            self.computed + other.computed,
            self.tokens_reused + other.tokens_reused,
            self.tokens_computed + other.tokens_computed,
            self.bytes_moved + other.bytes_moved,
            max(self.store, other.store, key=lambda s: worst[s]),
            other.mode or self.mode,
            other.reason or self.reason,
        )


@dataclass(frozen=True, slots=True)
class Cut:
    """Something that did not fit whole: its first tokens were used."""

    index: int
    """Among the request's own, from 0."""
    num_tokens: int
    num_kept: int


@dataclass(frozen=True, slots=True)
class RerankRequest:
    request_id: str
    tenant: str
    query: str
    texts: tuple[str, ...]
    timeout_s: float
    replicas: tuple[str, ...] = ()
    """Which replicas are to have it, best first; none: any."""
    earlier: tuple[str, ...] = ()
    """The user's turns before the query, oldest first. The query is scored by itself and behind
    them, up to `reranker.max_question_tokens`."""
    max_document_tokens: int | None = None
    """Longer texts are cut there."""
    excerpt: bool = False
    """A query of more than `reranker.max_question_tokens` is scored by an excerpt, not refused."""


@dataclass(frozen=True, slots=True)
class RerankResult:
    """In the order of the request's texts."""

    log_likelihoods: tuple[float, ...]
    """Mean log-probability of the question's tokens given the passage; with another scoring rule,
    its score."""
    num_tokens: int
    """Prompt tokens of all candidates, reused or not."""
    cache: CacheReport
    seconds: float
    scale: Scale = "log_probability"
    cuts: tuple[Cut, ...] = ()
    """Texts of which only the first tokens were looked at."""
    excerpt_chars: int = 0
    """Of the excerpt that was scored in the query's place; 0 where that was scored whole."""


@dataclass(frozen=True, slots=True)
class PrecomputeRequest:
    """Fill the store for these passages ahead of questions."""

    tenant: str
    texts: tuple[str, ...]
    timeout_s: float
    replicas: tuple[str, ...] = ()
    """See RerankRequest."""


@dataclass(frozen=True, slots=True)
class FuseRequest:
    """Make the fused segments of these passages ahead of questions."""

    tenant: str
    passages: tuple[Neighbourhood, ...]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the assistant wants called; `arguments` is JSON."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant's turn."""
    tool_call_id: str = ""
    """Of a tool's turn: the call that it answers."""

    @property
    def num_chars(self) -> int:
        return len(self.content) + sum(len(c.name) + len(c.arguments) for c in self.tool_calls)


@dataclass(frozen=True, slots=True)
class Sampling:
    """Greedy when `temperature` is 0."""

    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_k: int = 0
    """Only the most likely so many tokens are drawn from; 0: all."""
    min_p: float = 0.0
    """Only tokens at least so likely, as a share of the most likely one's probability."""
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    """See `actors.engine.shaping`."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """By token id."""
    json_schema: str = ""
    """The answer is JSON of this schema; empty: any text."""
    logprobs: int | None = None
    """How many of the most likely tokens are told beside each token's log-probability; None: not
    even that."""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Of one token, as the model has it: before temperature, biases and penalties."""

    token: str
    bytes: bytes
    logprob: float
    top: tuple["TokenLogprob", ...] = ()
    """The most likely tokens of that place, likeliest first."""


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """A conversation over passages, in the order given; `raw_prompt` continues a text instead."""

    request_id: str
    tenant: str
    messages: tuple[Message, ...]
    passages: tuple[str, ...]
    sampling: Sampling
    timeout_s: float
    raw_prompt: str | None = None
    chat_template_kwargs: TemplateKwargs = ()
    neighbours: tuple[bytes, ...] = ()
    """Of each passage the digest of the neighbours that its fused segment was made in sight of,
    empty where there is none; or nothing at all."""
    replicas: tuple[str, ...] = ()
    """See RerankRequest."""


@dataclass(frozen=True, slots=True)
class FitRequest:
    """How much of a conversation fits beside passages that are still to be found."""

    messages: tuple[Message, ...]
    num_passages: int
    passage_tokens: int
    """Of the longest, without the template around it."""
    max_tokens: int
    """Of the answer."""
    timeout_s: float
    chat_template_kwargs: TemplateKwargs = ()


@dataclass(frozen=True, slots=True)
class GenerateChunk:
    """A piece of the answer. The last one has `finish_reason`, counts and the report."""

    text: str
    finish_reason: FinishReason | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft_s: float = 0.0
    """Request in the generator to first token."""
    cache: CacheReport | None = None
    num_left_out: int = 0
    """Oldest messages of the conversation that had no room."""
    cuts: tuple[Cut, ...] = ()
    """Passages that were cut, by their place in the request."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of the tokens since the chunk before, where they were asked for."""
