"""Text that is not ours, as tokens: whatever it says, none of them is a control token.

A tokenizer finds its added tokens (turns, tools, thinking, end of text) in any text, and only some
of them count as special. Here they are taken out of the tokenizer, so that their letters are
letters. A vocabulary that has them as ordinary pieces as well (SentencePiece) can still put them
together from text; such a piece is cut in two, until nothing of the kind is left. Runs of blanks
and line breaks that a tokenizer adds (Gemma, code models) are text, and stay one token.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tokenizers import Encoding, Tokenizer

Tokens = tuple[int, ...]


class PlainText:
    """Thread-safe."""

    def __init__(self, serialized: str) -> None:
        """`serialized` is a tokenizer's JSON. Settings that cut or pad texts are left out."""
        facts: dict[str, Any] = json.loads(serialized)
        added = facts["added_tokens"]
        unknown = facts["model"].get("unk_token")
        blanks = [token for token in added if not token["special"] and _is_blank(token["content"])]
        facts["added_tokens"] = blanks
        self._tokenizer = unbounded(json.dumps(facts))
        number = self._tokenizer.token_to_id
        self._blanks = {number(token["content"]): token["id"] for token in blanks}
        """Ids by those that they have here: a tokenizer counts what its vocabulary has not."""
        self._control = {
            number(token["content"])
            for token in added
            if token not in blanks and token["content"] != unknown
        }
        """Pieces of the vocabulary; the others cannot come about."""

    @property
    def serialized(self) -> str:
        """JSON of the tokenizer without its control tokens."""
        return str(self._tokenizer.to_str())

    def encode(self, text: str) -> Tokens:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        if self._control.isdisjoint(encoding.ids):
            ids: Iterable[int] = encoding.ids
        else:
            ids = (token for token, _ in self._cut(encoding, text, 0))
        return tuple(self._blanks.get(token, token) for token in ids)

    def counts(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [
            len(encoding) if self._control.isdisjoint(encoding.ids) else len(self.encode(text))
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def starts(self, text: str) -> list[int]:
        """At which character each token of the text begins."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return [start for _, start in self._cut(encoding, text, 0)]

    def head(self, text: str, num: int) -> str:
        """A beginning of the text, cut where a token begins, that has at most `num` tokens."""
        while len(starts := self.starts(text)) > num:
            text = text[: starts[num]]
        return text

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
