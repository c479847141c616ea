"""Messages of a chat as clients send them: text in parts or none at all, calls of tools and what
came of them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from actors.messages import Message, ToolCall
from cluster.ingress.schemas import Text, printable

_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Where a part of this type has its text."""


def _text(content: Any) -> Any:
    """The text of all parts; pydantic checks that it is one. Raises PydanticCustomError for a part
    that is no text."""
    if content is None:
        return ""
    if not isinstance(content, list):
        return content
    return "\n".join(_part(part) for part in content)


def _part(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    text = part.get(_TEXT_PARTS[kind]) if isinstance(kind, str) and kind in _TEXT_PARTS else None
    if not isinstance(text, str):
        shown = printable(str(kind))
        raise PydanticCustomError(
            "unsupported_part",
            "a part of type {kind} is not supported; allowed: a text, or parts of type text",
            {"kind": shown},
        )
    return text


Content = Annotated[
    Text, BeforeValidator(_text, json_schema_input_type=str | list[dict[str, Any]] | None)
]


class CalledFunction(BaseModel):
    name: Text = Field(min_length=1)
    arguments: Text = ""


class CalledTool(BaseModel):
    id: Text = ""
    function: CalledFunction


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content = ""
    tool_calls: list[CalledTool] | None = None
    tool_call_id: Text | None = None

    def message(self) -> Message:
        role = "system" if self.role == "developer" else self.role
        calls = tuple(
            ToolCall(call.id, call.function.name, call.function.arguments)
            for call in self.tool_calls or ()
        )
        return Message(role, self.content, calls, self.tool_call_id or "")
