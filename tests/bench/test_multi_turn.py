"""The parts of the scenario that need no model."""

import pytest

from tests.bench.multi_turn.conversations import make_talks, with_pronoun


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("Who built the Corran bridge?", "Where is the Corran bridge?", "Where is it?"),
        ("Who was Emma's brother?", "Where did Emma's family live?", "Where did its family live?"),
        ("Where did the Normans live?", "Who led the Normans?", "Who led they?"),
        ("What does a function problem need?", "A function problem has what?", "It has what?"),
        ("What is Asket known for?", "Who rules Velmark?", None),
        ("What is time?", "How much time is there?", None),
    ],
)
def test_the_subject_of_both_becomes_a_pronoun(
    first: str, second: str, expected: str | None
) -> None:
    assert with_pronoun(first, second) == expected


def test_conversations_are_there_without_the_shared_data(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr("tests.bench.harness.SHARED_DATA", tmp_path)
    talks = make_talks(100, seed=1)
    assert talks.source == "Python reference" and len(talks.talks) == 100
    assert talks == make_talks(100, seed=1) != make_talks(100, seed=2)
    for talk in talks.talks:
        assert talk.document in talks.documents
        assert talk.document in talk.first and talk.document in talk.named
        assert " it" in talk.second
