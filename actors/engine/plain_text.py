"""Text that is not ours, as tokens: whatever it says, none of them is a control token.

A tokenizer finds its added tokens (turns, tools, thinking, end of text) in any text, and only some
of them count as special. Here they are taken out of the tokenizer, so that their letters are
letters. A vocabulary that has them as ordinary pieces as well (SentencePiece) can still put them
together from text; such a piece is cut in two, until nothing of the kind is left.
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
        self._control = {token["id"] for token in added if token["content"] != unknown}
        facts["added_tokens"] = []
        self._tokenizer = unbounded(json.dumps(facts))

    def encode(self, text: str) -> Tokens:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        if self._control.isdisjoint(encoding.ids):
            return tuple(encoding.ids)
        ids: list[int] = []
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token in self._control and end - start > 1:
                middle = (start + end) // 2
                ids += self.encode(text[start:middle]) + self.encode(text[middle:end])
            else:
                ids.append(token)
        return tuple(ids)


def unbounded(serialized: str) -> Tokenizer:
    """A tokenizer of this JSON that neither cuts nor pads texts."""
    tokenizer: Tokenizer = Tokenizer.from_str(serialized)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
