"""POST /v1/completions: a question, or with `retrieve` false a text to be continued."""

from dataclasses import replace
from typing import Any

from fastapi.responses import Response
from pydantic import Field

from actors.messages import Message
from cluster.ingress.auth import Tenant
from cluster.ingress.context import ContextDep, RequestId
from cluster.ingress.errors import invalid
from cluster.ingress.json_body import json_router
from cluster.ingress.logprobs import of_text
from cluster.ingress.models import generator_of
from cluster.ingress.openai import Form, OpenAiBody, respond
from cluster.ingress.sampling_fields import MAX_LOGPROBS
from cluster.ingress.schemas import Text, check_prompt, retrieval_of
from cluster.query import Query

router = json_router()


class CompletionBody(OpenAiBody):
    prompt: Text | list[Text]
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)

    @property
    def num_logprobs(self) -> int | None:
        return self.logprobs


def _text(text: str) -> dict[str, Any]:
    return {"text": text}


FORM = Form(
    "cmpl", "text_completion", "text_completion", _text, _text, opening=None, logprobs=of_text
)


@router.post("/v1/completions")
async def complete(
    body: CompletionBody, tenant: Tenant, context: ContextDep, request_id: RequestId
) -> Response:
    config = context.config
    model = generator_of(body.model, config.ingress)
    options = model.options(body.hyperrag)
    prompt = _prompt(body.prompt)
    check_prompt(len(prompt), "prompt", config.ingress)
    sampling = body.sampling(config.generator)
    if options.retrieve:
        retrieval = retrieval_of(options, prompt, "prompt", config.retrieval, config.ingress)
        query = Query(request_id, tenant, retrieval, (Message("user", prompt),), sampling)
    else:
        query = Query(request_id, tenant, None, (), sampling, raw_prompt=prompt)
    query = replace(query, num_choices=body.num_choices(config.ingress.max_choices))
    return await respond(context, query, body, model.name, FORM)


def _prompt(prompt: str | list[str]) -> str:
    texts = [prompt] if isinstance(prompt, str) else prompt
    if len(texts) != 1 or not texts[0]:
        raise invalid("prompt", "must be one text that is not empty")
    return texts[0]
