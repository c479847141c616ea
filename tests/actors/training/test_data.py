from pathlib import Path

import pytest

from actors.errors import RequestError
from actors.training.data import Question, make_examples, read_examples, split

PASSAGE = '{"id": "p1", "text": "One."}\n{"id": "p2", "text": "Two."}\n'
QUESTION = '{"question": "What?", "passage_id": "p2"}\n'


def _write(folder: Path, questions: str, passages: str) -> None:
    (folder / "questions.jsonl").write_text(questions, newline="")
    (folder / "passages.jsonl").write_text(passages, newline="")


def _read(folder: Path, questions: str, passages: str) -> None:
    _write(folder, questions, passages)
    read_examples(folder / "questions.jsonl", folder / "passages.jsonl")


@pytest.mark.parametrize(
    ("questions", "passages", "words"),
    [
        (QUESTION + "{", PASSAGE, r"questions\.jsonl:2: is not JSON"),
        ("[]", PASSAGE, r"questions\.jsonl:1: is a list"),
        ('\n{"passage_id": "p1"}', PASSAGE, r"questions\.jsonl:2: question is None"),
        ('{"question": "What?"}', PASSAGE, r"questions\.jsonl:1: passage_id is None"),
        ('{"question": " ", "passage_id": "p1"}', PASSAGE, "question is ' '"),
        ('{"question": "What?", "passage_id": "p9"}', PASSAGE, "passage_id 'p9' is not among"),
        (QUESTION, '{"id": "p2", "text": 3}', r"passages\.jsonl:1: text is 3"),
        (QUESTION, PASSAGE + PASSAGE, r"passages\.jsonl:3: id 'p1' appears twice"),
        (QUESTION, '{"id": "p2", "text": "Two."}', "holds one passage"),
        ("", PASSAGE, r"questions\.jsonl: is an empty file"),
    ],
)
def test_bad_input_names_file_line_and_field(
    questions: str, passages: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=words):
        _read(tmp_path, questions, passages)


def test_only_ends_of_lines_end_a_record(tmp_path: Path) -> None:
    """JSON may have U+2028 and its like in a text as they are."""
    text = "one\u2028two\u2029three\u0085four"
    _write(tmp_path, QUESTION.replace("What?", text), PASSAGE.replace("\n", "\r\n"))
    read = read_examples(tmp_path / "questions.jsonl", tmp_path / "passages.jsonl")
    assert [question.text for question in read.questions] == [text]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"none\.jsonl: cannot be read"):
        read_examples(tmp_path / "none.jsonl", tmp_path / "none.jsonl")


def test_passages_of_the_same_text_are_one() -> None:
    made = make_examples(["a", "b", "a"], [Question("?", 2), Question("!", 1)])
    assert made.passages == ["a", "b"]
    assert [q.positive for q in made.questions] == [0, 1]


def test_no_passage_is_both_trained_and_held_out() -> None:
    made = make_examples(
        [str(i) for i in range(10)], [Question(f"q{i}", i % 10) for i in range(30)]
    )
    trained, held_out = split(made, 0.2, seed=3)
    assert sorted(trained + held_out) == list(range(30))
    assert len(held_out) == 6
    positives = [{made.questions[i].positive for i in part} for part in (trained, held_out)]
    assert not positives[0] & positives[1]


def test_holding_out_everything_is_refused() -> None:
    made = make_examples(["a", "b"], [Question("?", 0), Question("!", 0)])
    with pytest.raises(RequestError, match="held_out_share"):
        split(made, 0.5, seed=0)
