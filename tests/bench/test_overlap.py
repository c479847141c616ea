"""The model that overlapping is measured against."""

import pytest

from tests.bench.overlap import compared, model_s


@pytest.mark.parametrize(("load", "compute"), [(1.0, 1.0), (0.2, 1.0), (3.0, 1.0), (0.0, 1.0)])
def test_the_model_is_the_schedule_of_equal_layers(load: float, compute: float) -> None:
    arrived = done = 0.0
    for _ in range(30):
        arrived += load / 30
        done = max(done, arrived) + compute / 30
    assert model_s(load, compute, 30) == pytest.approx(done)


def test_error_and_gain_are_medians_of_pairs() -> None:
    seconds = {
        "load alone": [1.0, 1.0, 1.0],
        "compute alone": [1.0, 1.0, 1.0],
        "one by one": [2.0, 2.2, 2.1],
        "beside each other": [1.1 * model_s(1, 1, 30)] * 3,
    }
    error, gain = compared(seconds, 30)
    assert error == pytest.approx(0.1, abs=1e-3)
    assert gain == pytest.approx(2.1 / 1.1 / model_s(1, 1, 30), abs=1e-3)
