"""Passages of a document: at most so many tokens each, cut where a reader would cut.

Tokens are counted as in a prompt, where the letters of a control token are letters. Pieces
(sentences, lines) are counted in one batch and packed greedily; every finished passage is counted
again as it stands, because tokens of a whole differ from the sum of its parts. Work is linear in
the text: no piece is longer than a fixed number of characters.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from actors.engine.marks import ordinary_marks
from actors.engine.plain_text import PlainText

# A piece ends behind a sentence (perhaps in quotes) or a line, blanks included. Lookbehind and
# possessive runs, because a megabyte of dots or of blanks must not be searched from every start.
_PIECE = re.compile(r"""(?:(?<=[.!?…])|(?<=[.!?…]["'”’)\]]))\s++|(?<=[。！？])\s*+|\n\s*+""")
_PARAGRAPH = re.compile(r"\n[^\S\n]*+\n")
_CHARS_PER_TOKEN = 8
"""Pieces longer than this many characters for each allowed token are cut before counting."""
_BLOCK_CHARS = 1 << 20
"""Characters tokenized in one batch: bounds the memory of encodings."""


@dataclass(frozen=True, slots=True)
class Span:
    """Characters [start, end) of a document, and how many tokens they are on their own."""

    start: int
    end: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class _Piece:
    start: int
    end: int
    num_tokens: int
    ends_paragraph: bool


class PassageSplitter:
    """Cuts texts with a private copy of a fast tokenizer, so that its truncation never acts.

    Accepts a `tokenizers.Tokenizer`, a transformers fast tokenizer, or what has been made of one.
    Thread-safe.
    """

    def __init__(self, tokenizer: Any, passage_tokens: int) -> None:
        if passage_tokens < 1:
            raise ValueError(f"passage_tokens is {passage_tokens}, must be 1 or more")
        self._plain = _plain(tokenizer)
        self.passage_tokens = passage_tokens
        seed = f"{passage_tokens}\n{self._plain.serialized}"
        self.fingerprint = blake2b(seed.encode(), digest_size=16).hexdigest()

    def split(self, text: str) -> list[Span]:
        """Ordered spans that hold every character that is not blank; none starts or ends blank.

        Only a single character can exceed `passage_tokens`, when it alone has more tokens.
        """
        return sorted(self._verified(text, list(self._packed(text))), key=lambda s: s.start)

    def _packed(self, text: str) -> Iterator[tuple[int, int]]:
        """Runs of whole pieces whose counts add up to at most the limit."""
        run: list[_Piece] = []
        used = 0
        for piece in self._counted(text):
            while run and used + piece.num_tokens > self.passage_tokens:
                keep = self._cut(run)
                yield run[0].start, run[keep - 1].end
                run = run[keep:]
                used = sum(p.num_tokens for p in run)
            run.append(piece)
            used += piece.num_tokens
        if run:
            yield run[0].start, run[-1].end

    def _cut(self, run: list[_Piece]) -> int:
        """How many pieces to keep: up to the last paragraph's end, if that is half a passage."""
        used = sum(p.num_tokens for p in run)
        for keep in range(len(run), 0, -1):
            if run[keep - 1].ends_paragraph and 2 * used >= self.passage_tokens:
                return keep
            used -= run[keep - 1].num_tokens
        return len(run)

    def _counted(self, text: str) -> Iterator[_Piece]:
        block: list[tuple[int, int]] = []
        chars = 0
        for start, end in self._bounded(text):
            block.append((start, end))
            chars += end - start
            if chars >= _BLOCK_CHARS:
                yield from self._count_block(text, block)
                block, chars = [], 0
        yield from self._count_block(text, block)

    def _count_block(self, text: str, block: list[tuple[int, int]]) -> Iterator[_Piece]:
        counts = self._plain.counts([text[start:end] for start, end in block])
        for (start, end), count in zip(block, counts, strict=True):
            paragraph = bool(_PARAGRAPH.search(text, max(start, _rstrip(text, start, end)), end))
            yield _Piece(start, end, count, paragraph)

    def _bounded(self, text: str) -> Iterator[tuple[int, int]]:
        """Pieces of the text, all of it, none longer than the bound."""
        limit = self.passage_tokens * _CHARS_PER_TOKEN
        start = 0
        for match in _PIECE.finditer(text):
            yield from _chop(text, start, match.end(), limit)
            start = match.end()
        yield from _chop(text, start, len(text), limit)

    def _verified(self, text: str, runs: list[tuple[int, int]]) -> Iterator[Span]:
        """Trimmed runs that hold the limit as they stand; the others are cut until they do."""
        while runs:
            batch, runs = _take_block(runs)
            trimmed = [(_lstrip(text, s, e), _rstrip(text, s, e)) for s, e in batch]
            spans = [(start, end) for start, end in trimmed if start < end]
            counts = self._plain.counts([text[start:end] for start, end in spans])
            for (start, end), count in zip(spans, counts, strict=True):
                if count <= self.passage_tokens or end - start == 1:
                    yield Span(start, end, count)
                else:
                    runs.extend(self._parts(text, start, end, count))

    def _parts(self, text: str, start: int, end: int, count: int) -> list[tuple[int, int]]:
        """About equal parts, cut at a token, or at a blank shortly before it."""
        starts = self._plain.starts(text[start:end])
        num_parts = -(-count // self.passage_tokens)
        borders = [start]
        for i in range(1, num_parts):
            cut = max(start + starts[i * count // num_parts], borders[-1] + 1)
            borders.append(_last_blank(text, (borders[-1] + cut) // 2, cut))
        kept = [border for border in borders if border < end]
        return list(zip(kept, [*kept[1:], end], strict=True))


def _plain(tokenizer: Any) -> PlainText:
    if isinstance(tokenizer, PlainText):
        return tokenizer
    serialized = getattr(tokenizer, "backend_tokenizer", tokenizer).to_str()
    return PlainText(serialized, ordinary_marks(tokenizer))


def _take_block(
    runs: list[tuple[int, int]],
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    chars = 0
    for i, (start, end) in enumerate(runs):
        chars += end - start
        if chars >= _BLOCK_CHARS:
            return runs[: i + 1], runs[i + 1 :]
    return runs, []


def _chop(text: str, start: int, end: int, limit: int) -> Iterator[tuple[int, int]]:
    while end - start > limit:
        blank = max(text.rfind(" ", start + limit // 2, start + limit), 0)
        cut = blank + 1 if blank else start + limit
        yield start, cut
        start = cut
    if start < end:
        yield start, end


def _last_blank(text: str, low: int, high: int) -> int:
    """The last blank behind `low` and before `high`, else `high`."""
    return next((i for i in range(high - 1, low, -1) if text[i].isspace()), high)


def _lstrip(text: str, start: int, end: int) -> int:
    while start < end and text[start].isspace():
        start += 1
    return start


def _rstrip(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1].isspace():
        end -= 1
    return end
