"""Variables of a chat template: which a client may set, and to what.

What a template prints of a variable is the template's own text, control tokens included. So a
client's value is a truth value, a number, or a word of letters and digits; and the variables that
a prompt is made of (turns, tools, dates, the texts of special tokens) have names that are ours.
Without torch: the ingress asks this module too.
"""

import re
from collections.abc import Mapping
from typing import Any

Scalar = bool | int | float | str
Options = Mapping[str, Scalar]

MAX_OPTIONS = 16
MAX_NUMBER = 2**17
"""A template may repeat something so many times."""
OURS = frozenset(
    {
        # What transformers renders a template with, and its own settings of doing so.
        "self", "messages", "conversation", "conversations", "tools", "documents", "chat_template",
        "add_generation_prompt", "continue_final_message", "tokenize", "padding", "truncation",
        "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask",
        "tokenizer_kwargs", "raise_exception", "strftime_now",
    }
)  # fmt: skip
DATES = frozenset({"date", "date_string", "current_date", "today", "today_date", "now", "datetime"})
"""What templates call today's date: `prompt.date` is the deployment's."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_WORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,62}[A-Za-z0-9])?")


def is_ours(name: str) -> bool:
    return name in OURS or name.endswith(("_token", "_tokens"))


def problem(name: str, value: Any) -> str | None:
    """Why a client may not set this variable to that; None where it may."""
    if not _NAME.fullmatch(name):
        return "is no name of a variable: letters, digits and _, at most 64"
    if is_ours(name) or name in DATES:
        return "is not for a request to set"
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        fits = -MAX_NUMBER <= value <= MAX_NUMBER
        return None if fits else f"must be a number from -{MAX_NUMBER} to {MAX_NUMBER}"
    if isinstance(value, str):
        fits = _WORD.fullmatch(value) is not None
        return None if fits else "must be 1 to 64 letters, digits, blanks, '.', '_' or '-'"
    return "must be true, false, a number or a word"
