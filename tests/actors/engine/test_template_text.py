"""Pieces that are tokenized apart are, joined, what the model's tokenizer makes of the whole."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from actors.engine.config import PromptConfig
from actors.engine.models import Decoder
from actors.engine.prompt import Prompt
from actors.messages import Message, Role
from tests.integration.control import templates
from tests.integration.control.families import tokenizer as family

_LETTERS = [chr(i) for i in range(33, 127)] + ["▁", "\n"]
SAID: list[tuple[Role, str]] = [
    ("system", "S one"), ("user", "a b"), ("assistant", "c d"), ("user", "x y"),
]  # fmt: skip
PLAIN = PromptConfig(question="{question}", system="")


def metaspace(scheme: Any) -> Any:
    """As newer conversions of SentencePiece have it."""
    pieces = {piece: i for i, piece in enumerate(["<unk>", "<s>", "</s>", *_LETTERS])}
    made = Tokenizer(models.BPE(pieces, [], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    made.decoder = decoders.Metaspace(prepend_scheme=scheme)
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    return _with_template(made)


def prepended() -> Any:
    """As older ones do."""
    made = Tokenizer.from_str(metaspace("never").backend_tokenizer.to_str())
    made.pre_tokenizer = None
    blanks = normalizers.Replace(" ", "▁")
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), blanks])
    return _with_template(made)


def _with_template(made: Tokenizer) -> Any:
    template = templates.LLAMA2.replace(" | trim", "")
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", chat_template=template
    )


MADE: dict[str, Callable[[], Any]] = {
    "first": lambda: metaspace("first"), "always": lambda: metaspace("always"),
    "never": lambda: metaspace("never"), "prepended": prepended,
    **{name: partial(family, name) for name in ("llama2", "mistral", "qwen3", "glm")},
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_a_chat_has_the_tokens_of_its_template(name: str) -> None:
    tokenizer = MADE[name]()
    said = SAID[1:] if name == "mistral" else SAID  # which has no system's turn
    turns = [{"role": role, "content": text} for role, text in said]
    text = tokenizer.apply_chat_template(
        turns, tokenize=False, add_generation_prompt=True, **PLAIN.chat_template_kwargs
    )
    whole = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    head, history, tail = Prompt(tokenizer, PLAIN).conversation([Message(*m) for m in said])
    assert [i for piece in (head, *history, tail) for i in piece] == whole


@pytest.mark.parametrize("name", ["first", "always", "prepended"])
def test_no_piece_but_the_first_gets_a_blank(name: str) -> None:
    tokenizer = MADE[name]()
    prompt = Prompt(tokenizer, PLAIN)
    names = tokenizer.convert_ids_to_tokens
    assert names(prompt.raw("ab")) == ["a", "b"] == names(prompt.trusted("ab"))
    assert names(prompt.question("ab")) == ["▁", "a", "b"]
    assert "▁▁" not in re.sub(r"\s", "", "".join(names(prompt.passage("a b"))))
    assert names(prompt.completion("ab"))[-3:] == ["▁", "a", "b"], "which begins a text"
    for text in ("</s> a", "a</s>b"):
        letters = "".join(names(prompt.raw(text)))
        assert letters == text.replace(" ", "▁"), "cut in two, it reads the same"


def test_the_default_model_is_tokenized_as_ever(decoder: Decoder, prompt: Prompt) -> None:
    stock = decoder.tokenizer
    for text in ("ab", " ab", "<|im_start|>user\nab", "\n\nab"):
        assert list(prompt.trusted(text)) == stock.encode(text, add_special_tokens=False)
