"""Templates as families ship them, over one tokenizer: what they take, and what stands where."""

import copy
import time
from typing import Any

import pytest

from actors.engine.chat_template import ChatTemplate
from actors.engine.config import PromptConfig
from actors.engine.prompt import Prompt
from actors.errors import RequestError
from actors.messages import Message
from tests.actors.engine.speaking import tokenizer

GEMMA2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "<|im_start|>{{ role + '\n' + message['content'] | trim + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
    "{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
    "{% endif %}{% endfor %}"
)
LATE_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set turns = messages[1:] %}{% else %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% if m['role'] == 'user' %}[INST] "
    "{% if loop.last and system is defined %}{{ system + '\n\n' }}{% endif %}"
    "{{ m['content'] }} [/INST]{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
"""Mistral 0.3: the system's text stands before the last user's."""
DATED = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] + '\n' }}"
    "{% if loop.first %}Today is {{ date_string }}.\n{% endif %}{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] + '\n' + m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
MODED = (
    "{% if level is defined %}{{ raise_exception('no such level') }}{% endif %}"
    "<|im_start|>system\n{% if mode is defined and mode != 'plain' %}{{ 'Mode: ' + mode + '\n' }}"
    "{% endif %}{% for i in range(repeat or 0) %}.{% endfor %}{% if per is defined %}{{ 1 / per }}"
    "{% endif %}{% for m in messages %}{% if m['role'] != 'system' and not loop.first %}"
    "<|im_start|>{{ m['role'] + '\n' }}{% endif %}{% if not hide %}{{ m['content'] }}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""What it says before the first turn depends on its variables."""
SYSTEM = PromptConfig().system
TEMPLATES = {
    "gemma2": GEMMA2, "mistral": MISTRAL, "late system": LATE_SYSTEM, "dated": DATED,
    "thinking": THINKING, "none": None,
}  # fmt: skip


def prompt_of(template: str | None, **settings: Any) -> Prompt:
    named = copy.deepcopy(tokenizer())
    named.chat_template = template
    return Prompt(named, PromptConfig(**settings))


def said(prompt: Prompt, *messages: tuple[Any, str], **options: Any) -> str:
    """The whole prompt, with `@` where the passages stand."""
    head, history, tail = prompt.conversation(
        [Message(role, text) for role, text in messages], options
    )
    before = [token for piece in (head, *history) for token in piece]
    return str(tokenizer().decode(before)) + "@" + str(tokenizer().decode(tail))


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_every_template_takes_a_system_text_history_and_turns_in_a_row(
    template: str | None,
) -> None:
    prompt = prompt_of(template)
    assert prompt.conversation([Message("user", "Who?")]).head == prompt.prefix
    text = said(
        prompt,
        ("system", "Be brief."), ("user", "One."), ("user", "Two."), ("assistant", "Three."),
        ("user", "Who?"),
    )  # fmt: skip
    at = [text.index(part) for part in ("Be brief.", "One.", "Two.", "Three.", "@", "Who?")]
    assert at == sorted(at) and SYSTEM not in text


def test_a_template_without_a_system_role_has_it_in_the_first_turn() -> None:
    assert said(prompt_of(GEMMA2), ("user", "Who?")) == (
        f"<bos><|im_start|>user\n{SYSTEM}\n\n@Question: Who?<|im_end|>\n<|im_start|>model\n"
    )
    assert said(prompt_of(LATE_SYSTEM), ("user", "A"), ("assistant", "B"), ("user", "C")) == (
        f"[INST] {SYSTEM}\n\nA [/INST]B<|im_end|>[INST] @Question: C [/INST]"
    )


def test_a_base_model_s_prompt_begins_as_its_texts_do() -> None:
    assert said(prompt_of(None), ("user", "Who?")) == f"<bos>{SYSTEM}\n\n@Question: Who?\n\n"


def test_a_greeting_stands_before_the_passages_and_the_user_s_turn_around_them() -> None:
    text = said(prompt_of(THINKING), ("assistant", "Hello!"), ("user", "Who?"))
    assert "assistant\nHello!<|im_end|>\n<|im_start|>user\n@Question: Who?" in text


@pytest.mark.parametrize("template", [GEMMA2, MISTRAL])
def test_what_a_template_cannot_render_is_the_caller_s_to_change(template: str) -> None:
    prompt = prompt_of(template)
    with pytest.raises(RequestError, match="must alternate") as raised:
        said(prompt, ("assistant", "Hello!"), ("user", "Who?"))
    assert raised.value.field == "messages"


@pytest.mark.parametrize("messages", [[("system", "Be brief.")], [], [("assistant", "Hi")]])
def test_there_has_to_be_a_user(messages: list[tuple[Any, str]]) -> None:
    with pytest.raises(RequestError, match="role user"):
        said(prompt_of(THINKING), *messages)


def test_an_answer_at_the_end_is_continued() -> None:
    text = said(prompt_of(THINKING), ("user", "Who?"), ("assistant", "It was"))
    assert text.endswith("@Question: Who?<|im_end|>\n<|im_start|>assistant\nIt was")


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_system_text_between_turns_stays_there_and_the_instruction_too(
    template: str | None,
) -> None:
    turns = [("user", "One."), ("assistant", "Two."), ("system", "In verse."), ("user", "Who?")]
    text = said(prompt_of(template), *turns)
    at = [text.index(part) for part in (SYSTEM, "One.", "Two.", "In verse.", "Who?")]
    assert at == sorted(at)


def test_a_template_with_system_turns_anywhere_has_it_as_one() -> None:
    prompt = prompt_of(THINKING)
    turns = [("user", "One."), ("assistant", "Two."), ("system", "In verse."), ("user", "Who?")]
    assert "<|im_start|>system\nIn verse.<|im_end|>\n<|im_start|>user\n@" in said(prompt, *turns)
    last = said(prompt, ("user", "Who?"), ("system", "In verse."))
    assert "@Question: Who?<|im_end|>\n<|im_start|>system\nIn verse.<|im_end|>" in last
    assert "[INST] Two.\n\n" not in said(prompt_of(MISTRAL), *turns)
    assert "[INST] @Question: In verse.\n\nWho? [/INST]" in said(prompt_of(MISTRAL), *turns)


def test_a_printed_date_is_the_configured_one() -> None:
    assert "Today is 26 Jul 2024." in said(prompt_of(DATED), ("user", "Who?"))
    assert "Today is 01 Mar 2026." in said(prompt_of(DATED, date="2026-03-01"), ("user", "Who?"))
    with pytest.raises(ValueError, match=r"prompt\.date is 'today'"):
        PromptConfig(date="today")


def test_thinking_is_off_unless_it_is_asked_for() -> None:
    assert said(prompt_of(THINKING), ("user", "Who?")).endswith("<think>\n\n</think>\n\n")
    thinking = prompt_of(THINKING, chat_template_kwargs={"enable_thinking": True})
    assert said(thinking, ("user", "Who?")).endswith("<|im_start|>assistant\n")


def test_a_request_sets_variables_over_the_configured_ones() -> None:
    prompt = prompt_of(THINKING)
    asked = ("user", "Who?")
    assert said(prompt, asked, enable_thinking=True).endswith("<|im_start|>assistant\n")
    assert said(prompt, asked).endswith("<think>\n\n</think>\n\n"), "and for nobody else"
    assert said(prompt, asked, unheard_of=1) == said(prompt, asked)


def test_a_variable_may_change_the_prefix() -> None:
    prompt = prompt_of(MODED)
    plain = prompt.conversation([Message("user", "Who?")], {"mode": "plain"}).head
    deep = prompt.conversation([Message("user", "Who?")], {"mode": "deep"}).head
    assert plain == prompt.prefix != deep
    assert tokenizer().decode(deep).startswith("<|im_start|>system\nMode: deep\n")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mode": 3}, "concatenate"),
        ({"repeat": 2**17}, "too big"),
        ({"per": 0}, "division"),
        ({"level": 9}, "no such level"),
        ({"hide": True}, "leaves out"),
    ],
)
def test_what_a_template_cannot_do_with_a_variable_is_the_caller_s_to_change(
    options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RequestError, match=reason) as raised:
        said(prompt_of(MODED), ("user", "Who?"), **options)
    assert raised.value.field == "chat_template_kwargs"
    with pytest.raises(RequestError, match="must alternate") as raised:
        said(prompt_of(GEMMA2), ("assistant", "Hello!"), ("user", "Who?"), **options)
    assert raised.value.field == "messages"


def test_a_word_that_is_a_control_token_is_refused() -> None:
    named = copy.deepcopy(tokenizer())
    named.add_tokens(["Deep"])
    named.chat_template = MODED
    prompt = Prompt(named, PromptConfig())
    with pytest.raises(RequestError, match="control") as raised:
        prompt.conversation([Message("user", "Who?")], {"mode": "Very Deep"})
    assert raised.value.field == "chat_template_kwargs.mode"


def test_the_time_of_a_conversation_grows_with_its_turns_and_no_faster() -> None:
    """Eight times the turns take eight times as long; with a scan of the rest for each of them it
    would be 64 times."""
    prompt = prompt_of(THINKING)

    def seconds(num: int) -> float:
        turns = [Message("user" if i % 2 else "assistant", "x") for i in range(num)]
        started = time.thread_time()  # not what other tests' threads do meanwhile
        prompt.conversation(turns)
        return time.thread_time() - started

    seconds(100)
    shorter, longer = (min(seconds(num) for _ in range(3)) for num in (2_000, 16_000))
    assert longer < 24 * max(shorter, 0.02)


def test_a_template_that_cannot_be_used_is_refused_at_load() -> None:
    with pytest.raises(ValueError, match="chat template cannot be used: .*never"):
        prompt_of("{{ raise_exception('never') }}")
    with pytest.raises(ValueError, match="leaves out"):
        prompt_of("{% for m in messages %}x{% endfor %}")


def test_marks_differ_between_templates() -> None:
    """Nobody can know them, and write one into a text."""
    one, other = (ChatTemplate(tokenizer(), "2024-07-26", {}) for _ in range(2))
    assert one._mark(0) != other._mark(0)
