"""POST /v1/chat/completions: the user's last messages are what is searched for."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from fastapi.responses import Response
from pydantic import Field

from actors.conversation import Conversation
from actors.errors import RequestError
from actors.messages import FinishReason, Message
from cluster.ingress.auth import Tenant
from cluster.ingress.chat_messages import ChatMessage
from cluster.ingress.citations import annotations
from cluster.ingress.config import IngressConfig
from cluster.ingress.context import Context, ContextDep, RequestId
from cluster.ingress.errors import invalid
from cluster.ingress.json_body import json_router
from cluster.ingress.logprobs import of_chat
from cluster.ingress.models import Generating, generator_of
from cluster.ingress.openai import Ended, Form, OpenAiBody, respond
from cluster.ingress.response_format import (
    PlainText,
    ResponseFormat,
    Tool,
    ToolChoice,
    call_schema,
    called_tools,
    schema_of,
    told,
)
from cluster.ingress.sampling_fields import MAX_LOGPROBS
from cluster.ingress.schemas import (
    ChatTemplateKwargs,
    check_prompt,
    retrieval_of,
)
from cluster.query import Answer, Query

router = json_router()

MAX_MESSAGES = 2048
"""Of one conversation, each of which the model's template renders."""
MAX_TOOLS = 128


class ChatBody(OpenAiBody):
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: int | None = Field(None, ge=1)
    chat_template_kwargs: ChatTemplateKwargs = ()
    tools: list[Tool] = Field(default_factory=list, max_length=MAX_TOOLS)
    tool_choice: ToolChoice = "auto"
    response_format: ResponseFormat = PlainText(type="text")
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=MAX_LOGPROBS)

    @property
    def num_logprobs(self) -> int | None:
        return self.top_logprobs if self.logprobs or self.top_logprobs else None


def _delta(text: str) -> dict[str, Any]:
    return {"delta": {"content": text} if text else {}}


def _message(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}}


def _cited(text: str, reason: FinishReason, answer: Answer) -> Ended:
    found = annotations(answer.sources, text)
    return Ended({"annotations": found} if found else {}, reason)


def _called(text: str, reason: FinishReason, answer: Answer) -> Ended:
    """A call that was cut short is text."""
    try:
        call = json.loads(text)
        function = {"name": call["name"], "arguments": json.dumps(call["arguments"])}
    except (ValueError, TypeError, KeyError):
        return Ended({"content": text}, reason)
    made = {"index": 0, "id": f"call_{uuid4().hex}", "type": "function", "function": function}
    return Ended({"content": None, "tool_calls": [made]}, "tool_calls")


FORM = Form(
    "chatcmpl",
    "chat.completion",
    "chat.completion.chunk",
    choice=_message,
    delta=_delta,
    opening={"delta": {"role": "assistant", "content": ""}},
    logprobs=of_chat,
    ended=_cited,
)
CALL = replace(FORM, choice=lambda text: _message(""), ended=_called, whole_only=True)
"""Of an answer that is a call of a tool."""


@router.post("/v1/chat/completions")
async def chat(
    body: ChatBody, tenant: Tenant, context: ContextDep, request_id: RequestId
) -> Response:
    model = generator_of(body.model, context.config.ingress)
    query = query_of(body, model, "messages", tenant, context, request_id)
    form = CALL if called_tools(body.tools, body.tool_choice) else FORM
    return await respond(context, query, body, model.name, form)


def query_of(
    body: ChatBody,
    model: Generating,
    param: str,
    tenant: str,
    context: Context,
    request_id: str,
) -> Query:
    """What is to be answered; `param` is the field that holds the conversation. Raises ApiError."""
    config = context.config
    options = model.options(body.hyperrag)
    tools = called_tools(body.tools, body.tool_choice)
    said = _conversation(body.messages, tools, param)
    num_left_out = _num_left_out(said, param, config.ingress)
    kept = said.without(num_left_out)
    sampling = body.sampling(config.generator, body.max_completion_tokens)
    schema = call_schema(tools) if tools else schema_of(body.response_format)
    sampling = replace(sampling, json_schema=schema)
    retrieval = None
    if options.retrieve:
        retrieval = retrieval_of(options, said.question, param, config.retrieval, config.ingress)
    return Query(
        request_id,
        tenant,
        retrieval,
        kept.messages,
        sampling,
        chat_template_kwargs=body.chat_template_kwargs,
        num_left_out=said.num_messages(num_left_out),
        num_choices=body.num_choices(config.ingress.max_choices),
    )


def _conversation(
    messages: Sequence[ChatMessage], tools: Sequence[Tool], param: str
) -> Conversation:
    """`tools`: of which the answer calls one; they are told behind what the system says."""
    try:
        said = Conversation.of([message.message() for message in messages])
        lead = (*said.lead, Message("system", told(tools))) if tools else said.lead
        return replace(said, lead=lead)
    except RequestError as error:
        raise invalid(param, error.message) from None


def _num_left_out(said: Conversation, param: str, ingress: IngressConfig) -> int:
    """How many of the oldest exchanges are more than a prompt may have, whatever the model. Raises
    ApiError where the rest is too long by itself."""
    chars = sum(message.num_chars for message in (*said.lead, *said.asked))
    check_prompt(chars, param, ingress)
    for num_kept, exchange in enumerate(reversed(said.history)):
        chars += sum(message.num_chars for message in exchange)
        if chars > ingress.max_prompt_chars:
            return len(said.history) - num_kept
    return 0
