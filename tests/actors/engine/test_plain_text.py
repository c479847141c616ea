"""No text becomes a control token, whichever way a tokenizer knows them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from actors.engine.config import PromptConfig
from actors.engine.models import Decoder
from actors.engine.plain_text import PlainText
from actors.engine.prompt import Prompt
from actors.messages import Message
from tests.actors.engine.speaking import CHAT, TURNS, tokenizer

LETTERS = "INSTabcdefghijklmnopqrstuvwxyz<>/|_｜▁[] \n"


def _sentencepiece() -> Tokenizer:
    """Its control tokens are pieces of its vocabulary too, the best for their letters."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("[INST]", 0.0)]
    pieces += [(letter, -5.0) for letter in LETTERS]
    made = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    made.add_special_tokens(["<s>", "</s>"])
    made.add_tokens(["[INST]"])
    return made


def _bytes() -> Tokenizer:
    """Control tokens that do not count as special, as DeepSeek and Qwen3 have them."""
    alphabet = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(alphabet, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<eos>"])
    made.add_tokens([AddedToken("<｜User｜>"), AddedToken("</think>"), AddedToken("<tool_call>")])
    return made


MADE = {"sentencepiece": _sentencepiece(), "bytes": _bytes()}


def control_ids(made: Tokenizer) -> dict[int, str]:
    return {i: token.content for i, token in made.get_added_tokens_decoder().items()}


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_every_control_token_is_text(made: Tokenizer) -> None:
    plain, control = PlainText(made.to_str()), control_ids(made)
    assert len(control) >= 3
    for content in control.values():
        for text in (content, f"a{content}b", f"{content}{content}", f" {content}\n"):
            ids = plain.encode(text)
            assert not control.keys() & set(ids)
            assert made.decode(list(ids)).replace(" ", "") == text.replace(" ", "")


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["<s>", "</s>", "[INST]", "<", "/s>", "s>", "a", " "]), max_size=8))
def test_no_way_of_putting_them_together_makes_one(parts: list[str]) -> None:
    made = MADE["sentencepiece"]
    ids = PlainText(made.to_str()).encode("".join(parts))
    assert not control_ids(made).keys() & set(ids)


def test_blanks_that_a_tokenizer_adds_are_text_and_stay_whole() -> None:
    """As Gemma has runs of line breaks, and code models runs of blanks."""
    made = _bytes()
    runs = [AddedToken(run) for run in ("\n\n", "\n\n\n", "    ", "▁▁")]
    made.add_tokens([*runs, AddedToken("<tool>")])
    made.add_special_tokens([AddedToken("\t\t")])
    plain = PlainText(made.to_str())
    text = "def f():\n\n    return\n\n\n1 ▁▁"
    assert list(plain.encode(text)) == made.encode(text).ids
    assert not {made.token_to_id("<tool>"), made.token_to_id("\t\t")} & set(
        plain.encode("<tool>\t\t")
    )


def test_a_tokenizer_s_own_limits_do_not_cut_texts() -> None:
    made = _bytes()
    made.enable_truncation(4)
    made.enable_padding(length=64)
    assert len(PlainText(made.to_str()).encode("abcdefgh")) == 8


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_tokens_are_counted_and_placed_as_they_are_made(made: Tokenizer) -> None:
    plain = PlainText(made.to_str())
    texts = ["ab", *control_ids(made).values(), "a".join(control_ids(made).values()), ""]
    assert plain.counts(texts) == [len(plain.encode(text)) for text in texts]
    for text in texts:
        starts = plain.starts(text)
        assert len(starts) == len(plain.encode(text)) and starts == sorted(starts)


def test_plain_text_is_tokenized_as_ever(decoder: Decoder) -> None:
    stock = decoder.tokenizer
    plain = PlainText(stock.backend_tokenizer.to_str())
    for text in ("Hold the button.", "  two  blanks\n\n", "naïve café 中文 🙂", ""):
        assert list(plain.encode(text)) == stock.encode(text, add_special_tokens=False)


MARK = "\u241ep\u241e"
"""What a template of ours might be marked with."""


@pytest.mark.parametrize("text", [*TURNS, "<bos>", f"{TURNS[1]}\n{TURNS[0]}user\n", MARK])
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_no_message_of_any_role_opens_or_closes_a_turn(role: Any, text: str) -> None:
    named: Any = tokenizer()
    assert named.chat_template == CHAT
    prompt = Prompt(named, PromptConfig())
    control = control_ids(named.backend_tokenizer).keys()

    def controls(content: str) -> list[int]:
        turns = [Message("system", "x"), Message("user", "x"), Message("assistant", "x")]
        said = [Message(m.role, content if m.role == role else m.content) for m in turns]
        head, history, tail = prompt.conversation([*said, Message("user", "x")])
        return [i for piece in (head, *history, tail) for i in piece if i in control]

    assert controls(text) == controls("x")
    head = prompt.conversation([Message("system", text), Message("user", "x")]).head
    assert named.decode(head) == f"<|im_start|>system\n{text}<|im_end|>\n<|im_start|>user\n"


@pytest.mark.parametrize("text", TURNS)
def test_nor_does_a_passage_a_question_or_a_raw_prompt(text: str) -> None:
    prompt = Prompt(tokenizer(), PromptConfig())
    control = control_ids(tokenizer().backend_tokenizer).keys()
    assert not control & set(prompt.passage(text))
    assert not control & set(prompt.question(text))
    assert not control & set(prompt.completion(text))
    judged, plain = prompt.judge_suffix(text), prompt.judge_suffix("x")
    assert judged[0] == plain[0]
    assert [i for i in judged[1] if i in control] == [i for i in plain[1] if i in control]
