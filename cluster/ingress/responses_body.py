"""A request of OpenAI's Responses API, and the conversation that it is."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from cluster.ingress.chat import MAX_MESSAGES, MAX_TOOLS, ChatBody
from cluster.ingress.chat_messages import Content
from cluster.ingress.errors import invalid
from cluster.ingress.openai import HARMLESS
from cluster.ingress.schemas import (
    Body,
    ChatTemplateKwargs,
    RetrievalOptions,
    Text,
    without_neutral,
)

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "conversation": (),
    "max_tool_calls": (),
    "previous_response_id": (),
    "prompt": (),
    "text": ({}, {"format": {"type": "text"}}),
    "top_logprobs": (0,),
}
"""Fields without an effect here, and the values that ask for none. Nothing is stored, so nothing
can be gone on from: the conversation is in `input`."""
_IGNORED_ITEMS = ("reasoning",)
_FUNCTION_CALL, _FUNCTION_OUTPUT = "function_call", "function_call_output"


class Item(BaseModel):
    """One of `input`: a message, the call of a function, or what came of it."""

    type: Literal["message", "function_call", "function_call_output"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Content = ""
    call_id: Text = ""
    name: Text = ""
    arguments: Text = ""
    output: Content = ""

    @model_validator(mode="after")
    def _is_whole(self) -> "Item":
        if self.type == "message" and self.role is None:
            raise PydanticCustomError("missing", "a message needs a role")
        if self.type == _FUNCTION_CALL and not self.name:
            raise PydanticCustomError("missing", "a function_call needs a name")
        return self

    def message(self) -> dict[str, Any]:
        """As the chat has it."""
        if self.type == _FUNCTION_OUTPUT:
            return {"role": "tool", "content": self.output, "tool_call_id": self.call_id}
        if self.type == _FUNCTION_CALL:
            function = {"name": self.name, "arguments": self.arguments}
            return {"role": "assistant", "tool_calls": [{"id": self.call_id, "function": function}]}
        return {"role": self.role, "content": self.content}


def _items(value: Any) -> Any:
    """A text is the user's message; what a model has thought is not shown to it again."""
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if not isinstance(value, list):
        return value
    return [i for i in value if not (isinstance(i, dict) and i.get("type") in _IGNORED_ITEMS)]


Items = Annotated[
    list[Item],
    BeforeValidator(_items, json_schema_input_type=str | list[Item]),
    Field(min_length=1, max_length=MAX_MESSAGES),
]


class ResponsesBody(Body):
    ignored: ClassVar[frozenset[str] | None] = HARMLESS | {
        "include",
        "stream_options",
        "truncation",
    }
    input: Items
    instructions: Text | None = None
    model: str | None = None
    stream: bool = False
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    tools: list[dict[str, Any]] = Field(default_factory=list, max_length=MAX_TOOLS)
    tool_choice: Literal["none", "auto"] = "auto"
    chat_template_kwargs: ChatTemplateKwargs = ()
    hyperrag: RetrievalOptions = Field(default_factory=RetrievalOptions)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, data: Any) -> Any:
        return without_neutral(data, _NEUTRAL)

    def as_chat(self) -> ChatBody:
        """Raises ApiError."""
        lead = [] if self.instructions is None else [("system", self.instructions)]
        messages = [{"role": role, "content": text} for role, text in lead]
        asked = {
            "messages": [*messages, *(item.message() for item in self.input)],
            "max_completion_tokens": self.max_output_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "chat_template_kwargs": dict(self.chat_template_kwargs),
            "hyperrag": self.hyperrag.model_dump(exclude_unset=True),
        }
        try:
            return ChatBody.model_validate(asked)
        except ValidationError as error:
            raise invalid("input", error.errors()[0]["msg"]) from None
