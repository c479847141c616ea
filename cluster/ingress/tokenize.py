"""POST /tokenize, as vLLM has it: ids of a text or a conversation, as the generator reads them."""

from typing import Any, ClassVar

from pydantic import Field

from actors.texts import TokenizeRequest
from cluster.ingress.auth import Tenant
from cluster.ingress.chat_messages import ChatMessage
from cluster.ingress.context import ContextDep
from cluster.ingress.errors import invalid
from cluster.ingress.json_body import json_router
from cluster.ingress.models import generator_of
from cluster.ingress.schemas import Body, ChatTemplateKwargs, Text, check_prompt

router = json_router()


class TokenizeBody(Body):
    """`prompt` or `messages`."""

    ignored: ClassVar[frozenset[str] | None] = frozenset(("user",))
    model: str | None = None
    prompt: Text | None = None
    messages: list[ChatMessage] = Field(default_factory=list, max_length=2048)
    add_special_tokens: bool = Field(
        default=True, description="begin a `prompt` as the model's prompts begin"
    )
    return_token_strs: bool = False
    chat_template_kwargs: ChatTemplateKwargs = ()


@router.post("/tokenize")
@router.post("/v1/tokenize")
async def tokenize(body: TokenizeBody, tenant: Tenant, context: ContextDep) -> dict[str, Any]:
    generator_of(body.model, context.config.ingress)
    if (body.prompt is None) == (not body.messages):
        raise invalid("prompt", "give either `prompt` or `messages`")
    messages = tuple(message.message() for message in body.messages)
    text = body.prompt or ""
    chars = len(text) + sum(message.num_chars for message in messages)
    check_prompt(chars, "messages" if messages else "prompt", context.config.ingress)
    request = TokenizeRequest(
        text,
        messages,
        body.add_special_tokens,
        context.limits.request().left_s(),
        body.chat_template_kwargs,
    )
    result = await context.services.generator.tokenize(request)
    return {
        "count": len(result.ids),
        "max_model_len": result.max_tokens,
        "tokens": list(result.ids),
        "token_strs": list(result.pieces) if body.return_token_strs else None,
    }
