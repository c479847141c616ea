"""Answers that are JSON of a given form: which tokens may come next. By llguidance, without torch:
the ingress asks this module too.
"""

from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from actors.errors import UnavailableError

MAX_SCHEMA_CHARS = 64 * 1024
_FORM: Any = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""One way to write each value: a small model may go on with blanks for ever."""


def problem(schema: str) -> str:
    """Why no answer can be held to this JSON schema; empty where one can."""
    try:
        return str(LLMatcher.validate_grammar(_grammar(schema)))
    except ValueError as error:
        return str(error)


class Grammar:
    """Where one answer has got to."""

    def __init__(self, tokens: LLTokenizer, schema: str) -> None:
        self._matcher = LLMatcher(tokens, _grammar(schema), log_level=0)

    def allowed(self, num_tokens: int) -> NDArray[np.bool_]:
        """Whether each token of the vocabulary may come next; the token that ends an answer, where
        it is complete. Raises UnavailableError."""
        packed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        bits = np.unpackbits(packed, bitorder="little")[:num_tokens]
        return np.pad(bits, (0, num_tokens - len(bits))).astype(np.bool_)

    def took(self, token: int) -> None:
        if not self._matcher.is_stopped():
            self._matcher.consume_token(token)
            self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise UnavailableError(f"the form of the answer: {self._matcher.get_error()[:200]}")


def _grammar(schema: str) -> str:
    return str(LLMatcher.grammar_from_json_schema(schema, overrides=_FORM))
