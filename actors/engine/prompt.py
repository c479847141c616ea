"""The one prompt of both stages, as token pieces that are joined by id, never by text.

    reranker   P | passage | instruction, end of turn, assistant's turn, cue | question (scored)
    judge      P | passage | instruction | question, end of turn, assistant's turn, cue
    generator  P | passage | passage ... | question, end of turn, assistant's turn

P is the chat template up to the first user's content. Pieces are tokenized apart, so that a
passage has the same ids wherever it stands; text of users and documents is tokenized without
special tokens: it cannot open or close a turn.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer

from actors.engine.config import PromptConfig
from actors.messages import Message

Tokens = tuple[int, ...]

_MARK = "\u241e{}\u241e"
_CACHED_TEXTS = 8192


class Prompt:
    """Tokenizes prompts of one model. Thread-safe; its cache of passages is bounded."""

    def __init__(self, tokenizer: Any, config: PromptConfig) -> None:
        self._hf = tokenizer
        self.config = config
        serialized = tokenizer.backend_tokenizer.to_str()
        self._trusted: Tokenizer = Tokenizer.from_str(serialized)
        self._untrusted: Tokenizer = Tokenizer.from_str(serialized)
        self._untrusted.encode_special_tokens = True
        self._cached = lru_cache(_CACHED_TEXTS)(self._passage_ids)
        head, self._tail = self._turn(config.system)
        self.prefix: Tokens = self._head_ids(head)
        """P: instruction prefix, the first segment of every chain."""
        self._rerank_suffix = self.trusted(
            config.rerank_instruction + self._tail + config.rerank_cue
        )
        if not self._rerank_suffix:
            raise ValueError("prompt: something must stand between passage and question")

    def passage(self, text: str) -> Tokens:
        """Ids of the passage template around `text`, cut to `max_passage_tokens`."""
        max_tokens = self.config.max_passage_tokens
        ids = self._cached(text)
        if len(ids) <= max_tokens:
            return ids
        tail = self.trusted(self.config.passage.split("{text}")[1])
        return ids[: max(1, max_tokens - len(tail))] + tail

    def rerank_suffix(self, question: str) -> tuple[Tokens, Tokens]:
        """What follows a passage: the fixed part, and the question's own tokens."""
        return self._rerank_suffix, self.question(question)

    def judge_suffix(self, question: str) -> tuple[Tokens, Tokens]:
        """What follows a passage that is judged: what does not depend on the question, the rest.

        A blank before the question is tokenized with it, as in running text.
        """
        before, after = self.config.judge_instruction.split("{question}")
        fixed = before.rstrip(" ")
        asked = self.raw(before[len(fixed) :] + question.strip())
        return self.trusted(fixed), asked + self.trusted(after + self._tail + self.config.judge_cue)

    def question(self, question: str) -> Tokens:
        """The question's own tokens, as they follow a word."""
        return self.raw(" " + question.strip())

    def conversation(self, messages: Sequence[Message]) -> tuple[Tokens, Tokens]:
        """Ids before and after the passages, which open the first user's turn.

        A system message replaces the configured one; the last message, the question, goes through
        the question template.
        """
        system = [m.content for m in messages if m.role == "system"]
        turns = [m for m in messages if m.role != "system"]
        before, after = self.config.question.split("{question}")
        last = [before, turns[-1].content, after]
        rendered = self._render(
            "\n".join(system) if system else self.config.system,
            [m.role for m in turns],
            [_MARK.format("p") + _MARK.format(i) for i in range(len(turns))],
        )
        head, rest = rendered.split(_MARK.format("p"), 1)
        pieces: list[int] = []
        for i, turn in enumerate(turns):
            left, rest = rest.replace(_MARK.format("p"), "", 1).split(_MARK.format(i), 1)
            pieces += self.trusted(left)
            if i < len(turns) - 1:
                pieces += self.raw(turn.content)
        pieces += self.trusted(last[0]) + self.raw(last[1]) + self.trusted(last[2] + rest)
        return self._head_ids(head), tuple(pieces)

    def raw(self, text: str) -> Tokens:
        """Ids of text that is not ours: special tokens in it are text."""
        return tuple(self._untrusted.encode(text, add_special_tokens=False).ids)

    def trusted(self, text: str) -> Tokens:
        """Ids of a template's own text, special tokens included."""
        return tuple(self._trusted.encode(text, add_special_tokens=False).ids)

    def _turn(self, system: str) -> tuple[str, str]:
        """The template before and after the content of a single user's turn."""
        head, tail = self._render(system, ["user"], [_MARK.format("p")]).split(_MARK.format("p"))
        return head, tail

    def _render(self, system: str, roles: Sequence[str], contents: Sequence[str]) -> str:
        if self._hf.chat_template is None:
            body = "\n\n".join(contents)
            return (f"{system}\n\n" if system else "") + f"{body}\n\n"
        turns = [{"role": r, "content": c} for r, c in zip(roles, contents, strict=True)]
        lead = [{"role": "system", "content": system}] if system else []
        text: str = self._hf.apply_chat_template(
            lead + turns, tokenize=False, add_generation_prompt=True
        )
        return text

    def _head_ids(self, head: str) -> Tokens:
        """Never empty, as chains begin with it: without system text and template, the token that
        texts of the model begin with."""
        first = self._hf.bos_token_id
        first = self._hf.eos_token_id if first is None else first
        ids = self.trusted(head) or (() if first is None else (int(first),))
        if not ids:
            raise ValueError(
                "prompt.system must not be empty: the model has no template and no BOS"
            )
        return ids

    def _passage_ids(self, text: str) -> Tokens:
        before, after = self.config.passage.split("{text}")
        return self.trusted(before) + self.raw(text) + self.trusted(after)
