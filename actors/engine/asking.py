"""Questions that are scored together, and what is still to be scored of each."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from actors.engine.candidates import Candidate
from actors.engine.documents import Document
from actors.engine.plain_text import Tokens
from actors.engine.scoring import Suffix
from actors.engine.segments import remaining
from actors.errors import ActorError, ExpiredError, UnavailableError
from actors.messages import CacheReport, Cut, RerankResult, Scale

Abandoned = Callable[[], bool]
"""Whether nobody waits for the answer any more: asked between passes."""


def never() -> bool:
    return False


def nobody_waits() -> ExpiredError:
    """Of a question whose caller has gone."""
    return ExpiredError("nobody waits for this answer any more")


@dataclass(frozen=True, slots=True)
class Ask:
    """One question and its candidates. `deadline` is a monotonic time."""

    question: str
    texts: Sequence[str]
    deadline: float
    abandoned: Abandoned = never
    earlier: tuple[str, ...] = ()
    max_document_tokens: int | None = None
    excerpt: bool = False
    """See RerankRequest."""


def wanted(ask: Ask) -> Iterator[str]:
    """Its texts, while somebody waits: what is done with one can take a while. Raises
    ExpiredError."""
    for text in ask.texts:
        if ask.abandoned():
            raise nobody_waits()
        remaining(ask.deadline)
        yield text


@dataclass(eq=False, slots=True)
class Job:
    """An accepted question: scores come in as passes end, equal passages are scored once."""

    index: int
    """In the batch."""
    deadline: float
    suffix: Suffix
    documents: Sequence[Document]
    prefix_tokens: int
    scale: Scale
    report: CacheReport
    abandoned: Abandoned = never
    excerpt_chars: int = 0
    """See RerankResult."""
    started: float = field(default_factory=time.monotonic)
    wanted: frozenset[Tokens] = field(init=False)
    scores: dict[Tokens, float] = field(default_factory=dict)
    error: ActorError | None = None

    def __post_init__(self) -> None:
        self.wanted = frozenset(self.passages)

    @property
    def passages(self) -> list[Tokens]:
        """Of all documents, in their order."""
        return [passage for document in self.documents for passage in document.passages]

    @property
    def is_open(self) -> bool:
        """Whether there is something left to score, and time and reason to do so."""
        if self.error is None and self.abandoned() and not self.is_scored:
            self.error = nobody_waits()
        if self.error is None and time.monotonic() >= self.deadline and not self.is_scored:
            self.error = ExpiredError("the request's time was up before its answer was computed")
        return self.error is None and not self.is_scored

    @property
    def is_scored(self) -> bool:
        return len(self.scores) == len(self.wanted)

    def take(self, passage: Tokens, score: float) -> None:
        """What is not a number fails the question, not those beside it."""
        self.scores[passage] = score
        if not math.isfinite(score):
            self.error = UnavailableError("the reranker computed a score that is not finite")

    def outcome(self) -> RerankResult | ActorError:
        if self.error is not None:
            return self.error
        fixed = self.prefix_tokens + self.suffix.num_tokens
        scores = self.scores
        return RerankResult(
            log_likelihoods=tuple(max(scores[p] for p in d.passages) for d in self.documents),
            num_tokens=sum(fixed + len(passage) for passage in self.passages),
            cache=self.report,
            seconds=time.monotonic() - self.started,
            scale=self.scale,
            cuts=cuts_of(self.documents),
            excerpt_chars=self.excerpt_chars,
        )


def cuts_of(documents: Sequence[Document]) -> tuple[Cut, ...]:
    return tuple(cut for i, document in enumerate(documents) if (cut := document.cut(i)))


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate of one question: a lane of a pass."""

    job: Job
    candidate: Candidate

    @property
    def passage(self) -> Tokens:
        return self.candidate.passage

    @property
    def order(self) -> tuple[int, int]:
        """Neighbours have one suffix and similar lengths."""
        return self.job.index, len(self.passage)


def rows_of(jobs: Iterable[Job], candidates: Iterable[Candidate]) -> list[Row]:
    """Those of the candidates that open jobs still want, in the order of lanes."""
    at_hand = list(candidates)
    rows = [
        Row(job, candidate)
        for job in jobs
        if job.is_open
        for candidate in at_hand
        if candidate.passage in job.wanted and candidate.passage not in job.scores
    ]
    return sorted(rows, key=lambda row: row.order)
