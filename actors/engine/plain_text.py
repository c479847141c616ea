"""Text that is not ours, as tokens: whatever it says, none of them is a control token.

A tokenizer finds its added tokens (turns, tools, thinking, end of text) in any text, and only some
of them count as special. Here they are taken out of the tokenizer, so that their letters are
letters. A vocabulary that has them as ordinary pieces as well (SentencePiece) can still put them
together from text; such a piece is cut in two, until nothing of the kind is left. Runs of blanks
and line breaks that a tokenizer adds (Gemma, code models) are text, and stay one token.
"""

import json
from typing import Any

from tokenizers import Tokenizer

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

    def encode(self, text: str) -> Tokens:
        return tuple(self._blanks.get(token, token) for token in self._pieces(text))

    def _pieces(self, text: str) -> list[int]:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        if self._control.isdisjoint(encoding.ids):
            return encoding.ids
        ids: list[int] = []
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token in self._control and end - start > 1:
                middle = (start + end) // 2
                ids += self._pieces(text[start:middle]) + self._pieces(text[middle:end])
            else:
                ids.append(token)
        return ids


def _is_blank(content: str) -> bool:
    """Whether it is nothing but blanks, as text or as SentencePiece writes them."""
    return not content.replace("\u2581", " ").strip()


def unbounded(serialized: str) -> Tokenizer:
    """A tokenizer of this JSON that neither cuts nor pads texts."""
    tokenizer: Tokenizer = Tokenizer.from_str(serialized)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
