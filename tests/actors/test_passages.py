import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.engine.config import ModelConfig, PromptConfig
from actors.engine.prompt import Prompt
from actors.engine.weights import load_tokenizer
from actors.passages import PassageSplitter, Span
from tests.actors.engine import speaking
from tests.actors.retrieval.support import byte_tokenizer

BYTES = byte_tokenizer()
TEXTS = st.one_of(
    st.text(st.sampled_from("ab .!?\n\t\"'é漢😀…。 "), max_size=400),
    st.text(max_size=200),
    st.lists(st.sampled_from(["A word.", "Why?\n\n", " ", "x" * 90, "\n", "😀"])).map("".join),
)


def assert_holds(text: str, spans: list[Span], limit: int) -> None:
    """Ordered, exact, within the limit, untrimmed by nobody; only blanks are between spans."""
    position = 0
    for span in spans:
        assert position <= span.start < span.end <= len(text)
        assert not text[position : span.start].strip()
        passage = text[span.start : span.end]
        assert passage == passage.strip()
        count = len(BYTES.encode(passage, add_special_tokens=False))
        assert span.num_tokens == count
        assert count <= limit or len(passage) == 1
        position = span.end
    assert not text[position:].strip()


@settings(max_examples=300)
@given(text=TEXTS, limit=st.integers(1, 60))
def test_passages_hold_every_character_within_the_limit(text: str, limit: int) -> None:
    assert_holds(text, PassageSplitter(BYTES, limit).split(text), limit)


def texts(text: str, limit: int) -> list[str]:
    return [text[s.start : s.end] for s in PassageSplitter(BYTES, limit).split(text)]


def test_cuts_behind_sentences() -> None:
    assert texts("One is here. Two is there. Three is gone.", 28) == [
        "One is here. Two is there.",
        "Three is gone.",
    ]


def test_prefers_the_end_of_a_paragraph() -> None:
    text = "First sentence here.\n\nSecond one. Third one follows it."
    assert texts(text, 35) == ["First sentence here.", "Second one. Third one follows it."]


def test_cuts_a_long_sentence_at_blanks() -> None:
    assert all(p in "word word word word" for p in texts("word " * 30, 22))
    assert "".join(texts("word " * 30, 22)).count("word") == 30


def test_short_text_is_one_passage_and_blank_text_none() -> None:
    assert texts("  A short text.\n", 40) == ["A short text."]
    assert texts(" \n\t ", 40) == []


def test_truncation_of_the_given_tokenizer_does_not_act() -> None:
    truncating = byte_tokenizer()
    truncating.enable_truncation(10)
    spans = PassageSplitter(truncating, 40).split("x" * 1000)
    assert_holds("x" * 1000, spans, 40)
    assert truncating.truncation is not None


@pytest.mark.parametrize("unit", [*speaking.TURNS, "a <bos>b. "])
def test_control_tokens_in_a_text_are_counted_as_the_prompt_has_them(unit: str) -> None:
    named = speaking.tokenizer()
    prompt = Prompt(named, PromptConfig())
    around = len(prompt.passage(""))
    text = unit * 175
    spans = PassageSplitter(named, 64).split(text)
    assert "".join(text[s.start : s.end] for s in spans).replace(" ", "") == text.replace(" ", "")
    for span in spans:
        assert span.num_tokens <= 64
        assert len(prompt.passage(text[span.start : span.end])) == around + span.num_tokens


def test_fingerprint_tells_settings_apart() -> None:
    prints = {PassageSplitter(BYTES, limit).fingerprint for limit in (8, 8, 9)}
    assert len(prints) == 2


def test_passage_tokens_must_be_positive() -> None:
    with pytest.raises(ValueError, match="passage_tokens is 0"):
        PassageSplitter(BYTES, 0)


@pytest.mark.parametrize("unit", ["a", ".", " ", "\n", "😀", ". ", "ab\n"])
def test_time_grows_with_the_text_not_with_its_square(unit: str) -> None:
    def seconds(chars: int) -> float:
        text = "x" + unit * (chars // len(unit))
        begin = time.perf_counter()
        spans = splitter.split(text)
        elapsed = time.perf_counter() - begin
        assert sum(len(text[s.start : s.end].split()) for s in spans)
        return elapsed

    splitter = PassageSplitter(BYTES, 64)
    seconds(10_000)
    # Ten times the text: about ten times as long, a hundred times if quadratic. The best of three:
    # others have the cores too.
    longer = min(seconds(300_000) for _ in range(3))
    assert longer < 35 * max(seconds(30_000), 0.01)


@pytest.mark.slow
def test_five_megabytes_without_a_blank_take_seconds() -> None:
    splitter = PassageSplitter(load_tokenizer(ModelConfig().source), 256)
    begin = time.perf_counter()
    spans = splitter.split("abcdefghi0" * 500_000)
    assert time.perf_counter() - begin < 60
    assert spans[0].start == 0 and spans[-1].end == 5_000_000
    assert all(span.num_tokens <= 256 for span in spans)
