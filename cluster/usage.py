"""What one request has used so far: for its log line and for the metrics."""

from dataclasses import dataclass, field

from actors.messages import CacheReport


@dataclass(slots=True)
class Usage:
    """Filled in by whoever knows; read once, when the request has ended."""

    timings_ms: dict[str, float] = field(default_factory=dict)
    """By stage: search, rerank, generate, ttft, total."""
    cache: dict[str, CacheReport] = field(default_factory=dict)
    """By stage: rerank, generate."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retried: bool = False
    """A replica was lost, and another asked."""
    error: str = ""
    """Code of the error it ended with."""
    refused_by: str = ""
    """The queue that was full."""
    broke_off: int = 0
    """Status that the error of a stream would have had, had the headers not been out."""
