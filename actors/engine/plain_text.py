"""Text that is not ours, as tokens: whatever it says, none of them is a control token.

A tokenizer finds its added tokens (turns, tools, thinking, end of text) in any text, and only some
of them count as special. Here they are taken out of the tokenizer, so that their letters are
letters. A vocabulary that has them as ordinary pieces as well (SentencePiece) can still put them
together from text; such a piece is cut in two, until nothing of the kind is left. Runs of blanks
and line breaks that a tokenizer adds (Gemma, code models) are text, and stay one token.

Marks that a template writes in ordinary letters are spelled letter by letter: the text is the same,
its tokens are none of the template's.
"""

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from tokenizers import Encoding, Tokenizer

Tokens = tuple[int, ...]


class PlainText:
    """Thread-safe."""

    def __init__(self, serialized: str, marks: Iterable[str] = ()) -> None:
        """`serialized` is a tokenizer's JSON. Settings that cut or pad texts are left out. `marks`
        are of a template, in ordinary letters."""
        facts: dict[str, Any] = json.loads(serialized)
        added = facts["added_tokens"]
        unknown = facts["model"].get("unk_token")
        blanks = [token for token in added if not token["special"] and _is_blank(token["content"])]
        facts["added_tokens"] = blanks
        self._whole, self._tokenizer = whole_and_inside(facts)
        number = self._tokenizer.token_to_id
        self._blanks = {number(token["content"]): token["id"] for token in blanks}
        """Ids by those that they have here: a tokenizer counts what its vocabulary has not."""
        self._control = {
            number(token["content"])
            for token in added
            if token not in blanks and token["content"] != unknown
        }
        """Pieces of the vocabulary; the others cannot come about."""
        self.marks = frozenset(filter(None, map(self._written, marks)))
        """As the pieces of their tokens read."""

    @property
    def serialized(self) -> str:
        """JSON of the tokenizer without its control tokens, and the marks that it spells."""
        return "\n".join([str(self._tokenizer.to_str()), *sorted(self.marks)])

    def encode(self, text: str, begins: bool = False) -> Tokens:
        """`begins`: nothing precedes it, and a tokenizer that puts a blank before texts does."""
        tokenizer = self._whole if begins else self._tokenizer
        encoding = tokenizer.encode(text, add_special_tokens=False)
        if self._holds_none(encoding):
            ids: Iterable[int] = encoding.ids
        else:
            ids = (token for token, _ in self._taken_apart(encoding, text))
        return tuple(self._blanks.get(token, token) for token in ids)

    def counts(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has."""
        fast = self._tokenizer.encode_batch_fast  # leaves out what the tokens read
        encode = self._tokenizer.encode_batch if self.marks else fast
        encodings = encode(list(texts), add_special_tokens=False)
        return [
            len(encoding) if self._holds_none(encoding) else len(self.encode(text))
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def starts(self, text: str) -> list[int]:
        """At which character each token of the text begins, or the one that was taken apart."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return [start for _, start in self._taken_apart(encoding, text)]

    def head(self, text: str, num: int) -> str:
        """A beginning of the text, cut where a token begins, that has at most `num` tokens."""
        while len(starts := self.starts(text)) > num:
            text = text[: starts[num]]
        return text

    def _holds_none(self, encoding: Encoding) -> bool:
        """Whether no control token is in it, and no mark."""
        if not self._control.isdisjoint(encoding.ids):
            return False
        if not self.marks:
            return True
        read = "".join(encoding.tokens)
        return not any(mark in read for mark in self.marks)

    def _taken_apart(self, encoding: Encoding, text: str) -> list[tuple[int, int]]:
        tokens = list(self._cut(encoding, text, 0))
        return list(self._spelled(tokens)) if self.marks else tokens

    def _spelled(self, tokens: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Tokens of one letter each where they read as a mark, as far as the vocabulary has
        them."""
        number = self._tokenizer.token_to_id
        pieces = [self._tokenizer.id_to_token(token) or "" for token, _ in tokens]
        ends = list(accumulate(map(len, pieces)))
        read = "".join(pieces)
        inside: set[int] = set()
        for mark in self.marks:
            for match in re.finditer(re.escape(mark), read):
                last = bisect_left(ends, match.end())
                inside.update(range(bisect_right(ends, match.start()), last + 1))
        for i, (token, start) in enumerate(tokens):
            letters = [number(letter) for letter in pieces[i]] if i in inside else []
            known = [letter for letter in letters if letter is not None]
            spelled = known if known and len(known) == len(letters) else [token]
            yield from ((letter, start) for letter in spelled)

    def _written(self, mark: str) -> str:
        pieces = self._tokenizer.encode(mark, add_special_tokens=False).tokens
        return "".join(pieces).lstrip("\u2581\u0120")

    def _cut(self, encoding: Encoding, text: str, at: int) -> Iterator[tuple[int, int]]:
        """Tokens and their places, of a text that begins at character `at`."""
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token not in self._control or end - start < 2:
                yield token, at + start
                continue
            middle = (start + end) // 2
            for first, last in ((start, middle), (middle, end)):
                part = text[first:last]
                encoded = self._tokenizer.encode(part, add_special_tokens=False)
                yield from self._cut(encoded, part, at + first)


def _is_blank(content: str) -> bool:
    """Whether it is nothing but blanks, as text or as SentencePiece writes them."""
    return not content.replace("\u2581", " ").strip()


def unbounded(serialized: str) -> Tokenizer:
    """A tokenizer of this JSON that neither cuts nor pads texts."""
    tokenizer: Tokenizer = Tokenizer.from_str(serialized)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def whole_and_inside(facts: dict[str, Any]) -> tuple[Tokenizer, Tokenizer]:
    """Tokenizers of this JSON, `unbounded`: for texts, and for what stands inside of one, before
    which nothing is put. They are one and the same where nothing is put before texts."""
    whole = unbounded(json.dumps(facts))
    bare = {**facts, **{part: _bare(facts.get(part)) for part in ("normalizer", "pre_tokenizer")}}
    return whole, whole if bare == facts else unbounded(json.dumps(bare))


def _bare(step: dict[str, Any] | None) -> dict[str, Any] | None:
    if step is None or step["type"] == "Prepend":
        return None
    bare = dict(step)
    for name in ("normalizers", "pretokenizers"):
        if name in step:
            bare[name] = [kept for each in step[name] if (kept := _bare(each)) is not None]
    if step["type"] == "Metaspace":
        bare["prepend_scheme"] = "never"
    if step["type"] == "ByteLevel":
        bare["add_prefix_space"] = False
    return bare
