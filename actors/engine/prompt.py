"""The one prompt of both stages, as token pieces that are joined by id, never by text.

    reranker   P | passage | instruction, end of turn, assistant's turn, cue | question (scored)
    judge      P | passage | instruction | question, end of turn, assistant's turn, cue
    generator  P | exchange ... | passage | passage ... | question, end of turn, assistant's turn

P is the chat template up to the first user's content. An exchange of a conversation goes from a
user's content up to the next one's, so passages always open the user's last turn. Pieces are
tokenized apart, so that a passage has the same ids wherever it stands; text of users, documents and
system messages is tokenized as plain text: it cannot open or close a turn.
"""

import logging
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from actors.conversation import Conversation
from actors.engine.chat_template import NO_OPTIONS, ChatTemplate
from actors.engine.config import PromptConfig
from actors.engine.marks import ordinary_marks
from actors.engine.plain_text import PlainText, Tokens
from actors.engine.template_options import Options
from actors.engine.template_text import TemplateText
from actors.errors import RequestError
from actors.messages import Message

_log = logging.getLogger(__name__)

_CACHED_TEXTS = 8192
_CACHED_PIECES = 256


class Turns(NamedTuple):
    """A conversation around its passages."""

    head: Tokens
    """Up to the first user's content."""
    history: tuple[Tokens, ...]
    """Exchanges behind it, up to the last user's content, where the passages stand."""
    tail: Tokens
    """What follows the passages: the question first."""


class Prompt:
    """Tokenizes prompts of one model. Thread-safe; its cache of passages is bounded."""

    def __init__(self, tokenizer: Any, config: PromptConfig) -> None:
        """`tokenizer` is one of transformers. Raises ValueError for settings and chat templates
        that cannot make a prompt."""
        self._hf = tokenizer
        self.config = config
        serialized = tokenizer.backend_tokenizer.to_str()
        self._own = TemplateText(serialized)
        marks = ordinary_marks(tokenizer)
        self.plain = PlainText(serialized, marks)
        """Tokenizes text that is not ours."""
        self._template = ChatTemplate(tokenizer, config.date, config.chat_template_kwargs)
        if "strftime_now" in (tokenizer.chat_template or ""):
            _log.info("the chat template prints a date: prompt.date, %s", config.date)
        self._cached = lru_cache(_CACHED_TEXTS)(self._passage_ids)
        self._trusted_ids = lru_cache(_CACHED_PIECES)(self._own.encode)
        systems = [config.system] if config.system else []
        if alike := sorted(mark for mark in marks if self.raw(mark) == self.trusted(mark)):
            _log.warning("text can imitate what the chat template marks turns by: %s", alike)
        *lead, self._tail = self._template.between(len(systems), ["user"])
        self.prefix: Tokens = self._head(self._alternating(lead, systems, None))
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

    def num_passage_tokens(self, text: str) -> int:
        """How many ids `passage` would have if it did not cut."""
        return len(self._cached(text))

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

    def conversation(self, messages: Sequence[Message], options: Options = NO_OPTIONS) -> Turns:
        """Ids before and behind the passages, which open the last user's turn.

        System messages before all others replace the configured one; later ones stay where they
        are. The question goes through its template. A last message of the assistant's is left open,
        to be continued. `options` are the request's own variables of the template. Raises
        RequestError for turns and variables that the model's template does not take.
        """
        self._check(options)
        said = Conversation.of(messages)
        asked = [message.content for message in said.lead] or [self.config.system]
        systems = [text for text in ["\n".join(asked)] if text]
        turns = self._template.turns(said.messages[len(said.lead) :])
        ends = turns[-1].role != "assistant"
        roles = [turn.role for turn in turns]
        pieces = self._template.between(len(systems), roles, ends, options)
        texts = systems + [turn.content for turn in turns]
        users = [len(systems) + i for i, turn in enumerate(turns) if turn.asks]
        first, last = users[0], users[-1]
        before, after = self.config.question.split("{question}")
        done = [self._head(self._alternating(pieces[: first + 1], texts[:first], None))]
        for start, end in pairwise(users):
            exchange = ["", *pieces[start + 1 : end + 1]]
            done.append(self._alternating(exchange, texts[start:end], done[-1][-1]))
        asking = [before, after + pieces[last + 1], *pieces[last + 2 :]]
        tail = self._alternating(asking, texts[last:], done[-1][-1])
        return Turns(done[0], tuple(done[1:]), tail)

    def completion(self, text: str) -> Tokens:
        """Ids of a prompt without a template, begun as texts of the model begin."""
        bos = self._hf.bos_token_id
        first = self._own.empty()[:1]
        return (first if first == (bos,) else ()) + self.raw(text, begins=True)

    def raw(self, text: str, begins: bool = False) -> Tokens:
        """Ids of text that is not ours: control tokens in it are text."""
        return self.plain.encode(text, begins)

    def trusted(self, text: str, begins: bool = False) -> Tokens:
        """Ids of a template's own text, control tokens included. What stands between turns comes
        again and again."""
        return self._trusted_ids(text, begins)

    def begins(self, last: int | None) -> bool:
        """Whether a piece behind this token begins a text (see `TemplateText`)."""
        return self._own.begins(last)

    def _check(self, options: Options) -> None:
        """Raises RequestError for a word that is a control token."""
        for name, value in options.items():
            if isinstance(value, str) and self.trusted(value) != self.raw(value):
                raise RequestError(f"chat_template_kwargs.{name}", "must not hold control tokens")

    def _alternating(self, pieces: Sequence[str], texts: Sequence[str], last: int | None) -> Tokens:
        """A template's pieces, and texts that stand between them, behind the token `last`."""
        ids = list(self.trusted(pieces[0], self.begins(last)))
        for text, piece in zip(texts, pieces[1:], strict=True):
            ids += self.raw(text, self.begins(ids[-1] if ids else last))
            ids += self.trusted(piece, self.begins(ids[-1] if ids else last))
        return tuple(ids)

    def _head(self, ids: Tokens) -> Tokens:
        """Never empty, as chains begin with it. A model without a chat template gets the token that
        its texts begin with."""
        bos, eos = self._hf.bos_token_id, self._hf.eos_token_id
        if self._hf.chat_template is None and bos is not None and ids[:1] != (bos,):
            return (int(bos), *ids)
        first = eos if bos is None else bos
        ids = ids or (() if first is None else (int(first),))
        if not ids:
            raise ValueError(
                "prompt.system must not be empty: the model has no template and no BOS"
            )
        return ids

    def _passage_ids(self, text: str) -> Tokens:
        before, after = self.config.passage.split("{text}")
        return self.trusted(before) + self.raw(text) + self.trusted(after)
