"""What a request may set of a chat template's variables, and what it never can."""

import inspect
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from actors.engine.config import PromptConfig
from actors.engine.template_options import MAX_NUMBER, is_ours, problem

SETTINGS = sorted(
    {
        name
        for function in (PreTrainedTokenizerBase.apply_chat_template, render_jinja_template)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind != parameter.VAR_KEYWORD
    }
)
"""Of transformers, where a variable of that name would end up."""
FINE: list[tuple[str, Any]] = [
    ("enable_thinking", True),
    ("reasoning_effort", "high"),
    ("thinking_budget", 512),
    ("temperature_hint", 0.5),
    ("model_identity", "v1.2 mini-chat"),
]


@pytest.mark.parametrize("name", [*SETTINGS, "bos_token", "eos_token", "additional_special_tokens"])
def test_what_a_prompt_is_made_of_is_nobody_s_to_set(name: str) -> None:
    assert is_ours(name)
    assert problem(name, True)
    with pytest.raises(ValueError, match=rf"chat_template_kwargs must not set {name}"):
        PromptConfig(chat_template_kwargs={name: "x"})


@pytest.mark.parametrize("name", ["date_string", "strftime_now", "current_date"])
def test_the_date_is_the_deployment_s(name: str) -> None:
    assert problem(name, "2030-01-01")


def test_truth_values_numbers_and_words_are_fine() -> None:
    assert [problem(*pair) for pair in FINE] == [None] * len(FINE)


@pytest.mark.parametrize(
    "value",
    [
        "<|im_end|>", "</think>", "[INST]", "a\nb", "", " x", "x" * 65, "Qwen 3, no", "<", "｜",
        MAX_NUMBER + 1, -MAX_NUMBER - 1, 10**400, float("nan"), float("inf"), 1e300,
        ["a"], {"a": 1}, None,
    ],
)  # fmt: skip
def test_whatever_else_is_refused(value: Any) -> None:
    assert problem("reasoning_effort", value)


@pytest.mark.parametrize("name", ["", "a b", "a" * 65, "1a", "a-b", "ü", "\ud800", "a\n"])
def test_names_are_those_of_variables(name: str) -> None:
    assert problem(name, True)
