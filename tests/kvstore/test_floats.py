"""The bit tricks against ml_dtypes, code by code."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from kvstore.floats import from_e4m3, from_float32, largest_magnitudes, to_e4m3, to_float32

E4M3 = ml_dtypes.float8_e4m3fn
FINITE_CODES = np.array([c for c in range(256) if c not in (0x7F, 0xFF)], np.uint8)


def test_every_e4m3_code_is_the_number_that_it_is_elsewhere() -> None:
    numbers = np.empty(FINITE_CODES.shape, np.float32)
    from_e4m3(FINITE_CODES.view(np.int8), numbers)
    assert numbers.tobytes() == FINITE_CODES.view(E4M3).astype(np.float32).tobytes()


def test_e4m3_rounds_to_nearest_even_over_its_whole_range() -> None:
    codes = FINITE_CODES.view(E4M3).astype(np.float32)
    ties = (np.sort(codes)[:-1] + np.sort(codes)[1:]) / 2
    drawn = np.random.default_rng(0).uniform(-448, 448, 20000).astype(np.float32)
    small = drawn * np.float32(2**-14)
    normal = ties[np.abs(ties) > 2**-6]
    near = [np.nextafter(normal, np.float32(bound)) for bound in (-np.inf, np.inf)]
    numbers = np.concatenate([codes, ties, *near, drawn, small, drawn * np.float32(1e-30)])
    found = np.empty(numbers.shape, np.int8)
    to_e4m3(numbers.copy(), found)
    assert found.tobytes() == numbers.astype(E4M3).tobytes()


def test_bfloat16_is_read_exactly_and_written_to_the_nearest() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    expected = bits.view(ml_dtypes.bfloat16).astype(np.float32)
    assert to_float32(bits).tobytes() == expected.tobytes()
    finite = expected[np.isfinite(expected)]
    back = np.empty(finite.shape, np.uint16)
    from_float32(finite.copy(), back)
    assert back.tobytes() == bits[np.isfinite(expected)].tobytes()
    numbers = np.random.default_rng(1).standard_normal(20000).astype(np.float32)
    rounded = np.empty(numbers.shape, np.uint16)
    from_float32(numbers.copy(), rounded)
    assert rounded.tobytes() == numbers.astype(ml_dtypes.bfloat16).tobytes()


@pytest.mark.parametrize("num_tokens", [1, 2, 3, 7, 64, 101])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_largest_magnitude_is_found_wherever_it_stands(
    num_tokens: int, dtype: type[np.floating[Any]]
) -> None:
    drawn = np.random.default_rng(num_tokens).standard_normal((2, num_tokens, 5))
    values: NDArray[Any] = drawn.astype(dtype)
    expected = np.abs(values).max(axis=1, keepdims=True).astype(np.float32)
    assert np.array_equal(largest_magnitudes(values), expected)
    for token in range(num_tokens):
        for bad in (np.nan, -np.inf):
            spoilt = values.copy()
            spoilt[1, token, 3] = bad
            finite = np.isfinite(largest_magnitudes(spoilt))
            assert not finite[1, 0, 3] and np.count_nonzero(finite) == finite.size - 1
