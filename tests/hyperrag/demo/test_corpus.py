import pytest

from hyperrag.demo.corpus import QUESTIONS, Question, as_documents, corpus


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.topic)
def test_the_expected_topic_is_in_this_pythons_reference(question: Question) -> None:
    assert question.topic in corpus()


def test_evidence_finds_every_topic_that_answers_across_line_breaks() -> None:
    question = Question("?", "a", ("the answer is here",))
    texts = {"a": "The answer.", "b": "Well, the answer\n   is here.", "c": "Nothing."}
    assert question.topics(texts) == {"a", "b"}


def test_no_question_is_answered_nearly_everywhere() -> None:
    for question in QUESTIONS:
        assert len(question.topics(corpus())) <= 5, question.text


def test_each_topic_is_one_document() -> None:
    documents = list(as_documents(corpus()))
    assert {document.id for document in documents} == set(corpus())
    assert all(document.text.strip() for document in documents)
