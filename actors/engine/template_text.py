"""A template's own text as tokens, piece by piece.

Some tokenizers put a blank before every text (Llama 2, TinyLlama, Phi 3: SentencePiece's dummy
prefix), or behind every control token. Pieces of a prompt are tokenized apart, and only the first
of them begins a text: the others get no blank that the whole text would not have.
"""

import json

from tokenizers import Tokenizer

from actors.engine.plain_text import Tokens, whole_and_inside


class TemplateText:
    """Thread-safe."""

    def __init__(self, serialized: str) -> None:
        """`serialized` is a tokenizer's JSON. Settings that cut or pad texts are left out."""
        self._whole, self._inside = whole_and_inside(json.loads(serialized))
        self._added = set(self._whole.get_added_tokens_decoder())
        self._opens_behind_added = self._sees_begins()

    def encode(self, text: str, begins: bool) -> Tokens:
        """`begins`: nothing precedes it that it would be tokenized with."""
        whole = self._ids(self._whole, text)
        if begins or self._inside is self._whole:
            return whole
        inside = self._ids(self._inside, text)
        return inside[: self._first_added(inside)] + whole[self._first_added(whole) :]

    def begins(self, last: int | None) -> bool:
        """Whether a piece behind this token begins a text; None: nothing is before it."""
        return last is None or (self._opens_behind_added and last in self._added)

    def empty(self) -> Tokens:
        """What stands in every text, and so in an empty one."""
        return tuple(self._whole.encode("", add_special_tokens=True).ids)

    def _first_added(self, ids: Tokens) -> int:
        return next((i for i, token in enumerate(ids) if token in self._added), len(ids))

    def _sees_begins(self) -> bool:
        if self._inside is self._whole:
            return False
        alone = self._ids(self._whole, "a")
        if alone == self._ids(self._inside, "a"):
            return False
        added = [str(token) for token in self._whole.get_added_tokens_decoder().values()]
        behind = (self._ids(self._whole, f"{content}a") for content in added)
        return any(ids[1:] == alone for ids in behind if ids[0] in self._added)

    def _ids(self, tokenizer: Tokenizer, text: str) -> Tokens:
        return tuple(tokenizer.encode(text, add_special_tokens=False).ids)
