"""Reranking with a published template that puts the question before the passage (ALGORITHMS 1.4).

No KV outlives a question. Instruction and question come first and are the same for all passages:
their KV is computed once a question and shared, so that a passage costs its own tokens and the
template's tail.
"""

import logging
import time
from collections.abc import Iterator, Sequence

import torch

from actors.engine.asking import Abandoned, Ask, cuts_of, nobody_waits, wanted
from actors.engine.config import RerankerConfig
from actors.engine.documents import Documents
from actors.engine.families import Family, query_first_family
from actors.engine.lanes import Lane
from actors.engine.packed import Batch
from actors.engine.plain_text import Tokens
from actors.engine.prompt import Prompt
from actors.engine.runtime import Runtime
from actors.engine.scoring import YesNo, finite, require_vocabulary_head, single_token
from actors.engine.segments import remaining
from actors.messages import CacheReport, RerankResult

_log = logging.getLogger(__name__)


class QueryFirst:
    """Scores candidates of one question at a time, without a store. For one engine thread."""

    def __init__(
        self, runtime: Runtime, family: Family, batch_tokens: int, max_document_passages: int
    ) -> None:
        """Raises ValueError or UnavailableError when the model cannot answer yes or no."""
        self._decoder, self._slot, self._batch_tokens = runtime.decoder, runtime.slot, batch_tokens
        bos = runtime.decoder.tokenizer.bos_token_id if family.begins_with_bos else None
        self.pieces = Pieces(runtime.prompt, family, () if bos is None else (int(bos),))
        self._documents = Documents(
            runtime.prompt.plain,
            self.pieces.lane,
            self.pieces.num_passage_tokens,
            runtime.prompt.config.max_passage_tokens,
            max_document_passages,
        )
        require_vocabulary_head(runtime.decoder)
        words = [family.yes] if family.no is None else [family.yes, family.no]
        setting, remedy = f"reranker.template {family.template!r}", "set it to 'document_first'"
        ids = [single_token(runtime.prompt, word, setting, remedy) for word in words]
        self._readout = YesNo(*ids)
        _log.warning(
            "%s is served with its published template, question first: reuse is off, every passage "
            "is computed again for every question. For stored KV set reranker.template to "
            "'document_first', and measure: the model was not trained on that order",
            family.name,
        )

    def score(self, ask: Ask, timeout_s: float) -> RerankResult:
        """Score every text, in the order given; equal passages are scored once.

        Raises ExpiredError when `timeout_s` passes, or nobody waits for the result any more.
        """
        start = time.monotonic()
        shared = self.pieces.shared(ask.question)
        documents = [self._documents.of(text, ask.max_document_tokens) for text in wanted(ask)]
        lanes = [lane for document in documents for lane in document.passages]
        distinct = list(dict.fromkeys(lanes))
        scores = self._scores(shared, distinct, start + timeout_s, ask.abandoned) if lanes else {}
        return RerankResult(
            log_likelihoods=tuple(max(scores[lane] for lane in d.passages) for d in documents),
            num_tokens=sum(len(shared) + len(lane) for lane in lanes),
            cache=CacheReport(
                computed=len(distinct),
                tokens_computed=len(shared) + sum(len(lane) for lane in distinct),
                store="off",
            ),
            seconds=time.monotonic() - start,
            scale="logit",
            cuts=cuts_of(documents),
        )

    def _scores(
        self, shared: Tokens, lanes: Sequence[Tokens], deadline: float, abandoned: Abandoned
    ) -> dict[Tokens, float]:
        scores: dict[Tokens, float] = {}
        remaining(deadline)
        kv = self._decoder.empty_kv(len(shared))
        with self._slot.held():
            self._decoder.forward(Batch([Lane(shared, sinks=(kv,))]))
        for part in self._passes(lanes):
            remaining(deadline)
            if abandoned():
                raise nobody_waits()
            batch = Batch([Lane(lane) for lane in part], kv)
            with self._slot.held():
                hidden = self._decoder.forward(batch)
                last = torch.tensor(batch.starts[1:], device=hidden.device) - 1
                found = finite(self._readout(self._decoder, hidden[last]))
            scores.update(zip(part, found, strict=True))
        return scores

    def _passes(self, lanes: Sequence[Tokens]) -> Iterator[list[Tokens]]:
        """Cut into passes of at most `batch_tokens` rows; a longer lane has one for itself."""
        part: list[Tokens] = []
        rows = 0
        for lane in lanes:
            if part and rows + len(lane) > self._batch_tokens:
                yield part
                part, rows = [], 0
            part.append(lane)
            rows += len(lane)
        if part:
            yield part


class Pieces:
    """A family's template as tokens: `shared(question)`, then `lane(text)` for every passage."""

    def __init__(self, prompt: Prompt, family: Family, bos: Tokens) -> None:
        self._prompt, self._family, self._bos = prompt, family, bos
        self._tail = self._joined(family.tail, "", begins=False)

    def shared(self, question: str) -> Tokens:
        begins = self._prompt.begins(self._bos[-1] if self._bos else None)
        return self._bos + self._joined(self._family.shared, question, begins)

    def lane(self, text: str) -> Tokens:
        """Passage, cut to `max_passage_tokens`, and tail."""
        passage = self._passage(text)
        return passage[: self._prompt.config.max_passage_tokens] + self._tail

    def num_passage_tokens(self, text: str) -> int:
        """Of the passage before it is cut."""
        return len(self._passage(text))

    def _passage(self, text: str) -> Tokens:
        return self._prompt.raw(self._family.passage.replace("{text}", text))

    def _joined(self, pieces: Sequence[str], question: str, begins: bool) -> Tokens:
        ids: Tokens = ()
        for piece in pieces:
            with_instruct = piece.replace("{instruct}", self._prompt.config.qwen3_instruct)
            filled = with_instruct.replace("{question}", question)
            tokenized = self._prompt.raw if "{" in piece else self._prompt.trusted
            ids += tokenized(filled, begins)
            begins = self._prompt.begins(ids[-1]) if ids else begins
        return ids


def create_query_first(runtime: Runtime, config: RerankerConfig) -> QueryFirst | None:
    """None for a document-first template."""
    family = query_first_family(config, runtime.decoder.name)
    if family is None:
        return None
    return QueryFirst(runtime, family, config.batch_tokens, config.max_document_passages)
