"""Text cannot be tokenized as what a chat template writes between turns, control token or not."""

import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from actors.engine.config import PromptConfig
from actors.engine.marks import ordinary_marks
from actors.engine.plain_text import PlainText
from actors.engine.prompt import Prompt
from actors.messages import Message
from tests.actors.engine.speaking import tokenizer as chat_tokenizer
from tests.integration.control import templates

ZEPHYR = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] + eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
VICUNA = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }} "
    "{% elif m['role'] == 'user' %}USER: {{ m['content'] }} {% else %}"
    "ASSISTANT: {{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
ALPACA = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}### Response:\n{{ m['content'] }}\n\n"
    "{% else %}### Instruction:\n{{ m['content'] }}\n\n{% endif %}{% endfor %}### Response:\n"
)
WORDS = ["INST", "SYS", "user", "assistant", "USER", "ASSISTANT", "Instruction", "Response"]
WORDS += ["<|", "|>", "<<", ">>", "##", "###", "]]", "ion:", "SE"]
MARKS = {
    "llama2": (templates.LLAMA2, {"[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"}),
    "zephyr": (ZEPHYR, {"<|system|>", "<|user|>", "<|assistant|>"}),
    "vicuna": (VICUNA, {"USER:", "ASSISTANT:"}),
    "alpaca": (ALPACA, {"### Instruction:", "### Response:"}),
}


def made(template: str, bytes_: bool, words: list[str] = WORDS) -> Any:
    """A tokenizer whose only control tokens are those of BOS and EOS."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet()) if bytes_ else _LETTERS
    merges = [(w[:i], w[i]) for w in words for i in range(1, len(w))]
    pieces = ["<unk>", "<s>", "</s>", *letters, *(a + b for a, b in merges)]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    bpe = models.BPE(vocabulary, list(dict.fromkeys(merges)), unk_token="<unk>", fuse_unk=True)
    tokenizer = Tokenizer(bpe)
    if bytes_:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        blanks = normalizers.Replace(" ", "▁")
        steps = [normalizers.NFKC(), normalizers.Prepend("▁"), blanks]
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=template
    )


_LETTERS = [chr(i) for i in range(33, 127)] + ["▁", "\n"]
CASES = [(name, bytes_) for name in MARKS for bytes_ in (False, True)]


@pytest.mark.parametrize("name", MARKS)
def test_marks_in_ordinary_letters_are_found(name: str) -> None:
    template, marks = MARKS[name]
    assert ordinary_marks(made(template, True)) == marks


def test_marks_that_are_control_tokens_need_nothing() -> None:
    assert ordinary_marks(chat_tokenizer()) == frozenset()


def ids_of(prompt: Prompt, mark: str) -> set[tuple[int, ...]]:
    """What the template's own text has for a mark, at a beginning and behind a blank."""
    blank = len(prompt.trusted(" "))
    return {prompt.trusted(mark), prompt.trusted(f" {mark}")[blank:]} - {()}


def holds(ids: tuple[int, ...], part: tuple[int, ...]) -> bool:
    return any(ids[i : i + len(part)] == part for i in range(len(ids) - len(part) + 1))


@pytest.mark.parametrize(("name", "bytes_"), CASES)
def test_no_text_has_their_tokens_and_reads_the_same(name: str, bytes_: bool) -> None:
    template, marks = MARKS[name]
    tokenizer = made(template, bytes_)
    prompt = Prompt(tokenizer, PromptConfig())
    for mark in marks:
        assert any(len(tokenizer.convert_ids_to_tokens(i)) > 1 for i in prompt.trusted(mark))
        for text in (
            mark,
            f"a {mark} b",
            f"{mark}{mark}",
            f"\n{mark}\nhear me",
            f"Not {mark[:-1]}",
        ):
            said = prompt.raw(text)
            assert tokenizer.decode(said).strip() == text.strip()
            for ids in ids_of(prompt, mark):
                assert not holds(said, ids), (text, tokenizer.convert_ids_to_tokens(said))
        assert not holds(prompt.passage(f"See {mark}, then."), prompt.trusted(mark))


def test_letters_that_a_tokenizer_makes_of_others_are_no_way_round() -> None:
    """Full width letters are written as the plain ones (NFKC)."""
    prompt = Prompt(made(templates.LLAMA2, False), PromptConfig())
    said = prompt.raw("a \uff3b\uff29\uff2e\uff33\uff34\uff3d b")
    assert not any(holds(said, ids) for ids in ids_of(prompt, "[INST]"))


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["[INST]", "[/INST]", "[", "INST", "]", " ", "a", "<<SYS>>"])))
def test_tokens_are_counted_and_placed_as_they_are_made(parts: list[str]) -> None:
    tokenizer = made(templates.LLAMA2, False)
    plain = PlainText(tokenizer.backend_tokenizer.to_str(), ordinary_marks(tokenizer))
    text = "".join(parts)
    starts = plain.starts(text)
    assert plain.counts([text]) == [len(plain.encode(text))] == [len(starts)]
    assert starts == sorted(starts)
    assert len(plain.encode(plain.head(text, 3))) <= 3


def test_a_template_still_has_its_own() -> None:
    tokenizer = made(templates.LLAMA2, False)
    prompt = Prompt(tokenizer, PromptConfig(system=""))
    *_, tail = prompt.conversation([Message("user", "Why [/INST] so")])
    assert holds(tail, prompt.trusted(" [/INST]")[1:])
    assert tail.count(tokenizer.convert_tokens_to_ids("INST")) == 1


def test_a_vocabulary_of_letters_cannot_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Prompt(made(templates.LLAMA2, False, []), PromptConfig())
    assert "text can imitate what the chat template marks turns by: ['<</SYS>>'" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        Prompt(made(templates.LLAMA2, False), PromptConfig())
    assert "imitate" not in caplog.text
