"""A model's tokens as bytes."""

from functools import cached_property

from llguidance import LLTokenizer

from actors.engine.grammar import Grammar
from actors.engine.models import Decoder


class Vocabulary:
    """Thread-safe. It is read when it is first needed, which takes about a second."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    @cached_property
    def tokens(self) -> LLTokenizer:
        serialized = self._decoder.tokenizer.backend_tokenizer.to_str()
        ends = sorted(self._decoder.eos_ids)
        return LLTokenizer(serialized, n_vocab=self._decoder.num_tokens, eos_token=ends or None)

    def grammar(self, schema: str) -> Grammar | None:
        """For an answer of its own; None where it is any text. The tokens have been read then."""
        tokens = self.tokens
        return Grammar(tokens, schema) if schema else None

    def bytes_of(self, token: int) -> bytes:
        """A token may be part of a character; a control token is its name."""
        if self.tokens.is_special_token(token):
            name = self._decoder.tokenizer.backend_tokenizer.id_to_token(token)
            return str(name or "").encode()
        return bytes(self.tokens.decode_bytes([token]))
