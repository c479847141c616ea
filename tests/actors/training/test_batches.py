from hypothesis import given
from hypothesis import strategies as st

from actors.training.batches import Batches, compared
from tests.actors.training.tiny import examples

EXAMPLES = examples()
NUM = len(EXAMPLES.passages)
NEXT = [[(q.positive + 1) % NUM, (q.positive + 2) % NUM] for q in EXAMPLES.questions]


@given(st.integers(1, len(EXAMPLES.questions)), st.integers(0, 5))
def test_an_epoch_draws_no_question_twice_and_targets_are_right(size: int, seed: int) -> None:
    trained = list(range(len(EXAMPLES.questions)))
    batches = Batches(EXAMPLES, NEXT, trained, size, seed)
    drawn = [batches.at(step) for step in range(batches.per_epoch)]
    asked = [i for batch in drawn for i in batch.questions]
    assert len(set(asked)) == len(asked) == size * (len(trained) // size)
    for batch in drawn:
        assert len(set(batch.passages)) == len(batch.passages)
        for i, target in zip(batch.questions, batch.targets, strict=True):
            assert batch.passages[target] == EXAMPLES.questions[i].positive
            assert set(NEXT[i]) <= set(batch.passages)


def test_a_step_has_the_same_batch_in_another_process() -> None:
    trained = list(range(12))
    one, other = (Batches(EXAMPLES, NEXT, trained, 4, seed=1) for _ in range(2))
    assert one.at(7) == [other.at(step) for step in range(8)][7]
    assert one.at(0) != one.at(3)


def test_questions_of_a_batch_share_their_hard_negatives() -> None:
    """Each of four random questions would bring three passages, twelve or nearly so."""
    far = [[(q.positive + 1) % NUM] for q in EXAMPLES.questions]
    batches = Batches(EXAMPLES, far, list(range(8)), 2, seed=0)
    assert [len(batches.at(step).passages) for step in range(3)] == [3, 3, 3]


def test_hard_negatives_of_all_are_compared_with_each() -> None:
    batch = compared(EXAMPLES, NEXT, [0, 1])
    assert batch.passages == [0, 1, 2, 3] and batch.targets == [0, 1]
