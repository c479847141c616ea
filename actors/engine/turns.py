"""Messages of a conversation as turns that a chat template takes.

A template asks for roles in turn, and many have neither calls of tools nor what came of them: those
are text then, as Qwen's and Hermes' models write it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from actors.messages import Message, Role, ToolCall

SEPARATOR = "\n\n"
"""Between a system's text and the user's in one turn, and between turns of one role that follow
each other."""


@dataclass(frozen=True, slots=True)
class Turn:
    role: Role
    content: str
    asks: bool = False
    """Whether it is the user who speaks: others may speak in that role where a template has no
    other."""


def turn_of(message: Message, later_systems: bool) -> Turn:
    """`later_systems`: whether the template takes system texts behind the first turn."""
    if message.role == "tool":
        return Turn("user", f"<tool_response>\n{message.content}\n</tool_response>")
    if message.role == "system" and not later_systems:
        return Turn("user", message.content)
    texts = [message.content, *map(_called, message.tool_calls)]
    return Turn(message.role, "\n".join(filter(None, texts)), message.role == "user")


def merged(turns: Sequence[Turn]) -> list[Turn]:
    """Turns of one role that follow each other are one."""
    return [
        Turn(role, SEPARATOR.join(turn.content for turn in own), any(turn.asks for turn in own))
        for role, of_role in groupby(turns, key=lambda turn: turn.role)
        for own in [list(of_role)]
    ]


def _called(call: ToolCall) -> str:
    name = json.dumps(call.name, ensure_ascii=False)
    arguments = call.arguments.strip() or "{}"
    return f'<tool_call>\n{{"name": {name}, "arguments": {arguments}}}\n</tool_call>'
