"""A chat's messages, taken apart: what stays, what can be left out, and what is asked.

lead      system messages before all others, in place of the configured one
history   exchanges, oldest first; each begins with a message of the user's
asked     the user's last message and what follows it
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from actors.errors import RequestError
from actors.messages import Message

MAX_QUERY_BYTES = 64 * 1024
"""Of a question that is searched for."""
GAP = " ... "
"""In an excerpt, where something is left out."""


@dataclass(frozen=True, slots=True)
class Conversation:
    lead: tuple[Message, ...]
    history: tuple[tuple[Message, ...], ...]
    """What stands before the user's first message is an exchange as well. System messages are part
    of the exchange that they stand in."""
    asked: tuple[Message, ...]

    @classmethod
    def of(cls, messages: Sequence[Message]) -> Self:
        """Raises RequestError where the user says nothing."""
        users = [i for i, message in enumerate(messages) if message.role == "user"]
        if not users:
            raise RequestError("messages", "needs a message with the role user")
        begin = next(i for i, message in enumerate(messages) if message.role != "system")
        starts = sorted({begin, *users})
        exchanges = [
            tuple(messages[start:end]) for start, end in zip(starts, starts[1:], strict=False)
        ]
        return cls(tuple(messages[:begin]), tuple(exchanges), tuple(messages[starts[-1] :]))

    @property
    def messages(self) -> tuple[Message, ...]:
        return (*self.lead, *(m for exchange in self.history for m in exchange), *self.asked)

    @property
    def question(self) -> str:
        """The user's last message."""
        return self.asked[0].content

    def questions(self, num: int) -> tuple[str, ...]:
        """The user's last `num` messages, oldest first."""
        said = [message.content for message in self.messages if message.role == "user"]
        return tuple(said[-num:])

    def without(self, num: int) -> Self:
        """Without the `num` oldest exchanges."""
        return replace(self, history=self.history[num:])

    def num_messages(self, num: int) -> int:
        """How many messages the `num` oldest exchanges have."""
        return sum(map(len, self.history[:num]))


def joined(earlier: Sequence[str], question: str, fits: Callable[[str], bool]) -> str:
    """The question behind as many of the turns before it as fit with it, the latest first."""
    text = question
    for turn in reversed(earlier):
        longer = f"{turn.strip()}\n{text}"
        if not fits(longer):
            break
        text = longer
    return text


def excerpt(question: str, fits: Callable[[str], bool]) -> str:
    """The question, or where that does not fit as much of its beginning and of its end: people say
    what they want before or behind a text that they paste. Cut between words."""
    if fits(question):
        return question
    half = len(question) // 2
    num = bisect_left(range(half), True, key=lambda n: not fits(_ends(question, n))) - 1
    while num > 0 and not fits(_ends(question, num)):  # a longer text can have fewer tokens
        num -= 1
    return _ends(question, max(0, num))


def _ends(text: str, num: int) -> str:
    """About `num` characters of either end."""
    head, tail = text[:num], text[len(text) - num :]
    words, rest = head.rsplit(maxsplit=1), tail.split(maxsplit=1)
    if not text[num].isspace() and len(words) == 2:
        head = words[0]
    if not text[len(text) - num - 1].isspace() and len(rest) == 2:
        tail = rest[1]
    return head.rstrip() + GAP + tail.lstrip()
