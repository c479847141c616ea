import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.autoscaling.splits import Budget, Split


def test_every_gpu_is_used_and_no_pool_is_empty() -> None:
    assert Budget(4).splits() == [Split(1, 3), Split(2, 2), Split(3, 1)]


def test_fractions_share_a_gpu() -> None:
    halves = Budget(2, rerank=0.5, generate=1.0)
    assert halves.splits() == [Split(2, 1)]
    tenths = Budget(1, rerank=0.1, generate=0.7)
    assert tenths.splits() == [Split(3, 1)], "0.3 / 0.1 is a little less than 3"


def test_with_a_floor_the_total_may_be_less() -> None:
    budget = Budget(4, floor=3)
    assert set(budget.splits()) == {
        Split(1, 2), Split(2, 1), Split(1, 3), Split(2, 2), Split(3, 1)
    }  # fmt: skip


@pytest.mark.parametrize("gpus", [0, 1, 1.9])
def test_too_little_for_one_of_each_is_no_split(gpus: float) -> None:
    assert Budget(gpus).splits() == []


@given(st.integers(1, 40), st.sampled_from([0.1, 0.25, 0.3, 0.5, 1, 2]), st.sampled_from([0.5, 1]))
def test_no_split_exceeds_the_budget_or_leaves_room(
    tenths: int, rerank: float, generate: float
) -> None:
    budget = Budget(tenths / 10, rerank, generate)
    for split in budget.splits():
        assert min(split.rerank, split.generate) >= 1
        assert budget.taken(split) <= budget.gpus + 1e-6
        assert not budget.allows(Split(split.rerank + 1, split.generate))
        assert not budget.allows(Split(split.rerank, split.generate + 1))
