"""POST /v1/chat/completions: the last user message is what is searched for."""

from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, Field

from actors.messages import Message
from cluster.ingress.auth import Tenant
from cluster.ingress.context import ContextDep, RequestId
from cluster.ingress.errors import invalid
from cluster.ingress.openai import Form, OpenAiBody, respond
from cluster.ingress.schemas import (
    ChatTemplateKwargs,
    Text,
    check_model,
    check_prompt,
    retrieval_of,
)
from cluster.query import Query

router = APIRouter()

MAX_MESSAGES = 2048
"""Of one conversation, each of which the model's template renders."""


class TextPart(BaseModel):
    type: Literal["text"]
    text: Text


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]

    def message(self) -> Message:
        parts = self.content
        text = parts if isinstance(parts, str) else "\n".join(part.text for part in parts)
        return Message("system" if self.role == "developer" else self.role, text)


class ChatBody(OpenAiBody):
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: int | None = Field(None, ge=1)
    chat_template_kwargs: ChatTemplateKwargs = ()


def _delta(text: str) -> dict[str, Any]:
    return {"delta": {"content": text} if text else {}}


FORM = Form(
    "chatcmpl",
    "chat.completion",
    "chat.completion.chunk",
    choice=lambda text: {"message": {"role": "assistant", "content": text}},
    delta=_delta,
    opening={"delta": {"role": "assistant", "content": ""}},
)


@router.post("/v1/chat/completions")
async def chat(
    body: ChatBody, tenant: Tenant, context: ContextDep, request_id: RequestId
) -> Response:
    config = context.config
    model = check_model(body.model, config.ingress.generator_name)
    messages = tuple(message.message() for message in body.messages)
    check_prompt(sum(len(message.content) for message in messages), "messages", config.ingress)
    sampling = body.sampling(config.generator, body.max_completion_tokens)
    retrieval = None
    if body.hyperrag.retrieve:
        question = _question(messages)
        param = "messages"
        retrieval = retrieval_of(body.hyperrag, question, param, config.retrieval, config.ingress)
    options = body.chat_template_kwargs
    query = Query(request_id, tenant, retrieval, messages, sampling, chat_template_kwargs=options)
    return await respond(context, query, body, model, FORM)


def _question(messages: tuple[Message, ...]) -> str:
    asked = [message.content for message in messages if message.role == "user"]
    if not asked:
        raise invalid("messages", "needs a message with the role user")
    return asked[-1]
