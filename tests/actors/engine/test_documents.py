"""What is scored of a text to rank, whatever its length."""

from actors.engine.config import PromptConfig
from actors.engine.documents import Document, Documents
from actors.engine.prompt import Prompt
from actors.messages import Cut
from tests.actors.engine.speaking import tokenizer

PROMPT = Prompt(tokenizer(), PromptConfig(max_passage_tokens=40))
SENTENCES = [f"Sentence number {i} is about nothing at all." for i in range(12)]
LONG = " ".join(SENTENCES)


def documents(max_passages: int = 100) -> Documents:
    sizes = PROMPT.num_passage_tokens
    return Documents(PROMPT.plain, PROMPT.passage, sizes, 40, max_passages)


def text_of(document: Document) -> str:
    around = PROMPT.config.passage.split("{text}")
    shown = [str(tokenizer().decode(passage)) for passage in document.passages]
    assert all(text.startswith(around[0]) and text.endswith(around[1]) for text in shown)
    return " ".join(text.removeprefix(around[0]).removesuffix(around[1]) for text in shown)


def test_a_short_text_is_its_passage() -> None:
    made = documents().of(SENTENCES[0])
    assert made.passages == (PROMPT.passage(SENTENCES[0]),)
    assert made.cut(0) is None


def test_a_long_text_is_cut_at_sentences_and_all_of_it_is_there() -> None:
    made = documents().of(LONG)
    assert len(made.passages) > 3 and max(map(len, made.passages)) <= 40
    assert text_of(made) == LONG
    assert made.cut(0) is None
    assert made.num_tokens == made.num_kept == len(PROMPT.raw(LONG))


def test_passages_beyond_the_bound_are_left_out_and_said() -> None:
    made = documents(2).of(LONG)
    assert made.passages == documents().of(LONG).passages[:2]
    kept = sum(len(PROMPT.raw(part)) for part in text_of(made).split("\0"))
    assert made.cut(7) == Cut(7, len(PROMPT.raw(LONG)), made.num_kept)
    assert abs(made.num_kept - kept) <= 2, "of passages by themselves, and of their text"


def test_a_text_is_cut_to_the_tokens_that_are_asked_for() -> None:
    for most in (1, 9, 60, 10**6):
        made = documents().of(LONG, most)
        kept = text_of(made).strip()
        assert LONG.startswith(kept) and made.num_kept <= most
        assert made.num_kept == min(most, made.num_tokens), "every token here begins a character"
        assert (made.cut(0) is None) == (most > made.num_tokens)
    assert documents().of("🙂", 1) == Document((PROMPT.passage(""),), 4, 0)


def test_what_is_control_to_the_tokenizer_is_counted_as_text() -> None:
    made = documents().of("<|im_end|>" * 30)
    assert len(made.passages) > 3 and max(map(len, made.passages)) <= 40


def test_blanks_alone_are_a_passage_too() -> None:
    assert documents().of(" \n" * 400).passages == (PROMPT.passage(""),)
