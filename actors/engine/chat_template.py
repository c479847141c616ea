"""A model's chat template, rendered around marks instead of texts.

What stands between the marks is the template's own and may hold control tokens; texts take the
marks' places as tokens, never as text. Marks are drawn at random, so no text can contain one.

Templates differ in what they take. One that has no system role, or puts the system's text behind
the first user's, gets it at the beginning of the first user's turn; one that takes no system text
between turns gets that as the user's. One that prints a date gets a fixed one: today's would make
every stored segment new each day.
"""

import re
import secrets
from collections.abc import Sequence
from datetime import date
from typing import Any

from jinja2 import TemplateError

from actors.engine.template_options import Options
from actors.engine.turns import SEPARATOR, Turn, merged, turn_of
from actors.errors import RequestError
from actors.messages import Message, Role

NO_OPTIONS: Options = {}
FAILURES = (
    TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError,
    RecursionError,
)  # fmt: skip
"""What a template raises for turns and variables that it was not written for."""


class ChatTemplate:
    def __init__(self, tokenizer: Any, today: str, options: Options) -> None:
        """`tokenizer` is one of transformers; `today` an ISO date; `options` are variables of the
        template. Raises ValueError when the template cannot render a user's turn."""
        self._hf = tokenizer
        day = date.fromisoformat(today)
        self._variables = {**options, "strftime_now": day.strftime}
        self._nonce = secrets.token_hex(8)
        self._any_mark = re.compile(f"\u241e{self._nonce}\\.(\\d+)\u241e")
        self.has_system = self._keeps(("system", *_EXAMPLE))
        later: tuple[Role, ...] = ("user", "assistant", "system", "user")
        self.has_later_systems = self._keeps(("system", *later) if self.has_system else later)
        try:
            self.between(1, ["user"])
        except RequestError as error:
            raise ValueError(f"the model's chat template cannot be used: {error.message}") from None

    def between(
        self,
        num_systems: int,
        roles: Sequence[Role],
        ends: bool = True,
        options: Options = NO_OPTIONS,
    ) -> list[str]:
        """The template's text before, between and behind `num_systems` (0 or 1) system texts and
        turns of these roles. Without `ends` the last turn stays open, to be continued. `options`
        are a request's own variables, over the configured ones.

        Raises RequestError for turns and variables that the template does not take.
        """
        try:
            return self._between(num_systems, roles, ends, options)
        except RequestError as error:
            if not options:
                raise
            self._between(num_systems, roles, ends, NO_OPTIONS)  # without them it may fail as well
            raise RequestError("chat_template_kwargs", error.message) from error

    def _between(
        self, num_systems: int, roles: Sequence[Role], ends: bool, options: Options
    ) -> list[str]:
        num = num_systems + len(roles)
        marks = [self._mark(i) for i in range(num)]
        rendered = self._render(marks[:num_systems], marks[num_systems:], roles, ends, options)
        pieces = self._any_mark.split(rendered)
        if pieces[1::2] != [str(i) for i in range(num)]:
            raise RequestError("messages", "holds a turn that the model's template leaves out")
        return [*pieces[:-1:2], pieces[-1] if ends else ""]

    def turns(self, messages: Sequence[Message]) -> list[Turn]:
        """The messages behind the leading system's, in roles that the template has there."""
        return merged([turn_of(message, self.has_later_systems) for message in messages])

    def _keeps(self, roles: Sequence[Role]) -> bool:
        """Whether texts of systems and users are put once each, in their order."""
        marks = {i: self._mark(i) for i, role in enumerate(roles) if role != "assistant"}
        try:
            text = self._apply(
                [(r, marks.get(i, "answer")) for i, r in enumerate(roles)], True, NO_OPTIONS
            )
        except FAILURES:
            return False
        places = [text.find(mark) for mark in marks.values()]
        return places == sorted(places) and all(text.count(m) == 1 for m in marks.values())

    def _render(
        self,
        systems: Sequence[str],
        turns: Sequence[str],
        roles: Sequence[Role],
        ends: bool,
        options: Options,
    ) -> str:
        texts = list(turns)
        lead: list[tuple[Role, str]] = [("system", text) for text in systems]
        if systems and not self.has_system:
            lead, texts[0] = [], systems[0] + SEPARATOR + texts[0]
        try:
            return self._apply([*lead, *zip(roles, texts, strict=True)], ends, options)
        except FAILURES as error:
            raise RequestError(
                "messages", f"cannot be put into the model's chat template: {error}"
            ) from error

    def _apply(self, turns: Sequence[tuple[Role, str]], ends: bool, options: Options) -> str:
        if self._hf.chat_template is None:
            return "".join(text + SEPARATOR for _, text in turns)
        text: str = self._hf.apply_chat_template(
            [{"role": role, "content": content} for role, content in turns],
            tokenize=False,
            add_generation_prompt=ends,
            **{**self._variables, **options},
        )
        return text

    def _mark(self, i: int) -> str:
        return f"\u241e{self._nonce}.{i}\u241e"


_EXAMPLE: tuple[Role, ...] = ("user", "assistant", "user")
