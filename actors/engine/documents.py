"""Texts to rank, of any length: one that is longer than a passage is scored by its best passage."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from actors.engine.plain_text import PlainText, Tokens
from actors.messages import Cut
from actors.passages import PassageSplitter

_CACHED_TEXTS = 8192


@dataclass(frozen=True, slots=True)
class Document:
    """What is scored of a text: at least one passage."""

    passages: tuple[Tokens, ...]
    num_tokens: int
    """Of the text itself, without a template."""
    num_kept: int

    def cut(self, index: int) -> Cut | None:
        """None where all of the text is looked at."""
        if self.num_kept >= self.num_tokens:
            return None
        return Cut(index, self.num_tokens, self.num_kept)


class Documents:
    """Makes passages of texts, within bounds. Thread-safe; its cache is bounded."""

    def __init__(
        self,
        plain: PlainText,
        passage: Callable[[str], Tokens],
        size: Callable[[str], int],
        max_passage_tokens: int,
        max_passages: int,
    ) -> None:
        """`passage` makes a passage of a short text, `size` says how many tokens, counted against
        `max_passage_tokens`, it takes uncut."""
        self._plain, self._passage, self._size = plain, passage, size
        self._max_passage_tokens, self._max_passages = max_passage_tokens, max_passages
        self._splitter = PassageSplitter(plain, max(1, max_passage_tokens - size("")))
        self._cached = lru_cache(_CACHED_TEXTS)(self._made)

    def of(self, text: str, max_tokens: int | None = None) -> Document:
        """`max_tokens`: the text is cut there first."""
        return self._cached(text, max_tokens)

    def _made(self, text: str, max_tokens: int | None) -> Document:
        (num_tokens,) = self._plain.counts([text])
        head, num_head = text, num_tokens
        if max_tokens is not None and num_tokens > max_tokens:
            head = self._plain.head(text, max_tokens)
            (num_head,) = self._plain.counts([head])
        if self._size(head) <= self._max_passage_tokens:
            return Document((self._passage(head),), num_tokens, num_head)
        spans = self._splitter.split(head)
        kept = spans[: self._max_passages]
        passages = [self._passage(head[span.start : span.end]) for span in kept]
        num_kept = num_head if kept == spans else sum(span.num_tokens for span in kept)
        return Document(tuple(passages) or (self._passage(""),), num_tokens, num_kept)
