"""Which JSON an answer is to be: `response_format`, and calls of tools that are forced."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from actors.engine.grammar import MAX_SCHEMA_CHARS, problem
from cluster.ingress.errors import invalid
from cluster.ingress.schemas import Text

Schema = dict[str, Any]


class PlainText(BaseModel):
    type: Literal["text"]


class JsonObject(BaseModel):
    type: Literal["json_object"]


class NamedSchema(BaseModel):
    name: Text = ""
    schema_: Schema = Field(default_factory=lambda: {"type": "object"}, alias="schema")
    strict: bool | None = None


class JsonSchema(BaseModel):
    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[PlainText | JsonObject | JsonSchema, Field(discriminator="type")]


class Function(BaseModel):
    name: Text = Field(min_length=1, max_length=64)
    description: Text | None = None
    parameters: Schema | None = None


class Tool(BaseModel):
    type: Literal["function"]
    function: Function


class NamedFunction(BaseModel):
    name: Text


class NamedTool(BaseModel):
    type: Literal["function"]
    function: NamedFunction


ToolChoice = Literal["none", "auto", "required"] | NamedTool


def schema_of(form: PlainText | JsonObject | JsonSchema) -> str:
    """The JSON schema of the answer, empty where it is text. Raises ApiError."""
    match form:
        case JsonObject():
            return '{"type": "object"}'
        case JsonSchema():
            return checked(form.json_schema.schema_, "response_format.json_schema.schema")
    return ""


def called_tools(tools: Sequence[Tool], choice: ToolChoice) -> list[Tool]:
    """Of which one has to be called; none where the answer may be text. Raises ApiError."""
    if choice in ("none", "auto"):
        return []
    if not tools:
        raise invalid("tool_choice", "needs tools to choose from")
    if choice == "required":
        return list(tools)
    assert isinstance(choice, NamedTool)
    named = [tool for tool in tools if tool.function.name == choice.function.name]
    if not named:
        raise invalid("tool_choice", f"{choice.function.name!r} is none of the tools")
    return named


def call_schema(tools: Sequence[Tool]) -> str:
    """Of a call of one of the tools. Raises ApiError."""
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool.function.name},
                "arguments": tool.function.parameters or {"type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    for i, tool in enumerate(tools):
        if tool.function.parameters:
            checked(tool.function.parameters, f"tools[{i}].function.parameters")
    return checked({"anyOf": calls}, "tools")


def told(tools: Sequence[Tool]) -> str:
    """What the model is told of the tools."""
    described = [json.dumps(t.function.model_dump(exclude_none=True)) for t in tools]
    return "\n".join(
        [
            "Call one of these functions:",
            *described,
            'Answer with JSON alone: {"name": function, "arguments": object}.',
        ]
    )


def checked(schema: Schema, param: str) -> str:
    """The schema as JSON. Raises ApiError where no answer can be held to it."""
    text = json.dumps(schema)
    if len(text) > MAX_SCHEMA_CHARS:
        raise invalid(param, f"has {len(text)} characters, at most {MAX_SCHEMA_CHARS} are allowed")
    if reason := problem(text):
        raise invalid(param, f"cannot be followed: {reason[:200]}")
    return text
