"""Log-probabilities of an answer's tokens, in the forms of chats and of text completions."""

from collections.abc import Sequence
from typing import Any

from actors.messages import TokenLogprob


def of_chat(logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    content = [
        {**_told(one), "top_logprobs": [_told(other) for other in one.top]} for one in logprobs
    ]
    return {"content": content, "refusal": None}


def of_text(logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Offsets are of this piece of the text."""
    offsets, at = [], 0
    for one in logprobs:
        offsets.append(at)
        at += len(one.token)
    return {
        "tokens": [one.token for one in logprobs],
        "token_logprobs": [one.logprob for one in logprobs],
        "top_logprobs": [{other.token: other.logprob for other in one.top} for one in logprobs],
        "text_offset": offsets,
    }


def _told(one: TokenLogprob) -> dict[str, Any]:
    return {"token": one.token, "logprob": one.logprob, "bytes": list(one.bytes)}
