"""Marks of turns that a chat template writes in ordinary letters: `[INST]`, `<|user|>`, `USER:`.

Where they are no control tokens, a text that has the same letters would be tokenized as they are.
They are found in what the template prints around an example, so that text which holds them can be
spelled in other tokens (`PlainText`).
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from actors.engine.chat_template import FAILURES

_TEXT = "\u241etext\u241e"
_EXAMPLES = (("system", "user"), ("user", "assistant", "user"), ("user",))
_BRACKETED = re.compile(r"[<\[{(|｜]+/?[^\s<>\[\]{}()]*\w[^\s<>\[\]{}()]*[>\]})|｜]+")
_LABEL = re.compile(r"(?:#+ ?)?\w+:\s*$")
"""At the end of what precedes a text: `USER:`, `### Response:`."""


def ordinary_marks(tokenizer: Any) -> frozenset[str]:
    """Marks in the chat template of a tokenizer of transformers that are no added tokens of its
    own; none where it has no template, or one that renders none of the examples."""
    if not getattr(tokenizer, "chat_template", None):
        return frozenset()
    added = {str(token.content) for token in tokenizer.added_tokens_decoder.values()}
    own = re.compile("|".join(map(re.escape, sorted(filter(None, added), key=len, reverse=True))))
    return frozenset(
        mark
        for text in _printed(tokenizer)
        for piece in text.split(_TEXT)
        for mark in _in(own.split(piece) if added else [piece])
    )


def _printed(tokenizer: Any) -> Iterator[str]:
    for roles in _EXAMPLES:
        turns = [{"role": role, "content": _TEXT} for role in roles]
        try:
            yield tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=roles[-1] == "user"
            )
        except FAILURES:
            continue


def _in(pieces: Iterable[str]) -> Iterator[str]:
    """Marks in a template's text between two others' texts, cut at its control tokens."""
    last = ""
    for last in pieces:
        yield from _BRACKETED.findall(last)
    yield from (label.strip() for label in _LABEL.findall(last))
