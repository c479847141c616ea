from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kvstore.compression import Codec, codec_of, create_codec
from kvstore.config import CODECS, CodecName, StoreConfig
from kvstore.types import Dtype, Layout

DTYPES: dict[Dtype, Any] = {
    "float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16,
}  # fmt: skip
ROUNDING: dict[Dtype, float] = {"float32": 2**-23, "bfloat16": 2**-8, "float16": 2**-11}
"""How far a number may move, relative to itself, when it is rounded to the dtype."""
SMALLEST: dict[Dtype, float] = {"float32": 0, "bfloat16": 2**-134, "float16": 2**-25}
"""The same among its subnormals, absolutely."""
EXTREMES: dict[Dtype, tuple[float, float]] = {
    "float32": ((2 - 2**-23) * 2.0**127, 2**-149),
    "bfloat16": ((2 - 2**-7) * 2.0**127, 2**-133),
    "float16": (65504, 2**-24),
}
"""The largest number, and the smallest above zero."""
LOSSY: tuple[CodecName, ...] = ("int8", "fp8")
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_codec = pytest.mark.parametrize("name", CODECS)
every_lossy_codec = pytest.mark.parametrize("name", LOSSY)


def layout_of(values: NDArray[Any], dtype: Dtype) -> Layout:
    return Layout(3, values.shape[1], values.shape[2], values.shape[3], dtype)


def round_trip(codec: Codec, values: NDArray[Any], dtype: Dtype) -> tuple[bytes, NDArray[Any]]:
    """The encoded layer, and what it decodes to, in float32."""
    layout = layout_of(values, dtype)
    encoded = bytes(codec.encode_layer(layout, memoryview(values.tobytes())))
    assert len(encoded) == codec.encoded_layer_nbytes(layout)
    into = bytearray(b"\xff" * layout.layer_nbytes)
    codec.decode_layer(layout, memoryview(encoded), memoryview(into))
    return encoded, np.frombuffer(into, DTYPES[dtype]).reshape(values.shape)


def normal(dtype: Dtype, tokens: int = 37, seed: int = 0) -> NDArray[Any]:
    """A layer of 2 heads and 8 channels, one of which is an outlier."""
    values = np.random.default_rng(seed).standard_normal((2, 2, tokens, 8))
    values[..., 3] *= 50
    return values.astype(DTYPES[dtype])


def assert_within_bounds(
    name: CodecName, dtype: Dtype, values: NDArray[Any], decoded: NDArray[Any]
) -> None:
    """int8: half a scale. fp8: 2**-4 of the value, half a step of 2**-9 scales below 2**-6 of them.

    Then the dtype's own rounding, and what the scale lost when it was cut to 17 bits.
    """
    x, error = values.astype(np.float64), np.abs(decoded.astype(np.float64) - values)
    largest = np.abs(x).max(axis=2, keepdims=True)
    if name == "int8":
        bound = np.broadcast_to(np.maximum(largest / 127, 2**-126) / 2, x.shape)
    else:
        bound = np.maximum(np.abs(x) * 2**-4, np.maximum(largest / 448, 2**-126) * 2**-10)
    bound = bound * (1 + 1e-6) + largest * 2**-16
    assert (error <= bound + (np.abs(x) + bound) * ROUNDING[dtype] + SMALLEST[dtype]).all()


@every_codec
def test_a_codec_is_found_by_its_name_and_by_its_number(name: CodecName) -> None:
    codec = create_codec(name)
    assert codec.name == name and codec_of(codec.code) is codec
    assert codec.lossless == (name == "raw")
    assert StoreConfig(codec=name).codec == name


def test_the_numbers_in_files_do_not_change() -> None:
    assert {name: create_codec(name).code for name in CODECS} == {"raw": 0, "int8": 1, "fp8": 2}


def test_unknown_codecs_are_refused_with_what_is_known() -> None:
    with pytest.raises(ValueError, match=r"codec is 3, must be one of 0 \(raw\), 1 \(int8\), 2"):
        codec_of(3)
    with pytest.raises(ValueError, match="codec is 'zip', must be one of raw, int8, fp8"):
        create_codec("zip")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"store\.codec is 'zip', must be one of raw, int8, fp8"):
        StoreConfig(codec="zip")  # type: ignore[arg-type]


def test_sizes_follow_from_the_layout() -> None:
    layout = Layout(30, 3, 256, 64, "bfloat16")
    assert create_codec("raw").encoded_layer_nbytes(layout) == layout.layer_nbytes == 196608
    for name in LOSSY:
        assert create_codec(name).encoded_layer_nbytes(layout) == 2 * 3 * 64 * (4 + 256)


@every_lossy_codec
def test_the_bytes_are_scales_then_codes(name: CodecName) -> None:
    values = np.array([1, -2, 0.5, -4], np.float32).reshape(2, 1, 2, 1)
    encoded, _ = round_trip(create_codec(name), values, "float32")
    scales, codes = np.frombuffer(encoded[:8], np.float32), np.frombuffer(encoded[8:], np.int8)
    largest = 127 if name == "int8" else 448
    assert np.allclose(scales * largest, [2, 4], rtol=2**-16)
    assert codes.tolist() == ([64, -127, 16, -127] if name == "int8" else [0x76, -2, 0x66, -2])


@every_dtype
def test_raw_keeps_every_bit(dtype: Dtype) -> None:
    values = normal(dtype)
    values[0, 0, 0, 0], values[1, 1, 1, 1] = np.nan, np.inf
    encoded, decoded = round_trip(create_codec("raw"), values, dtype)
    assert encoded == values.tobytes() == decoded.tobytes()


@every_dtype
@every_lossy_codec
@pytest.mark.parametrize("tokens", [1, 2, 37, 256])
def test_the_error_stays_within_its_bound(name: CodecName, dtype: Dtype, tokens: int) -> None:
    values = normal(dtype, tokens)
    _, decoded = round_trip(create_codec(name), values, dtype)
    assert_within_bounds(name, dtype, values, decoded)
    if dtype != "float32":  # the largest of a channel, here its only one, comes back exactly
        largest = np.abs(values.astype(np.float32))
        top = largest == largest.max(axis=2, keepdims=True)
        assert np.array_equal(decoded[top], values[top])


def numbers(dtype: Dtype) -> st.SearchStrategy[float]:
    drawn = st.floats(-EXTREMES[dtype][0], EXTREMES[dtype][0])
    return drawn.map(lambda x: float(DTYPES[dtype](x)))


@st.composite
def layers(draw: Callable[..., Any]) -> tuple[Dtype, NDArray[Any]]:
    """Any finite numbers of the dtype, subnormal and largest ones included."""
    dtype: Dtype = draw(st.sampled_from(list(DTYPES)))
    tokens = draw(st.integers(1, 5))
    drawn = draw(st.lists(numbers(dtype), min_size=4 * tokens, max_size=4 * tokens))
    return dtype, np.array(drawn, DTYPES[dtype]).reshape(2, 1, tokens, 2)


@every_lossy_codec
@given(layer=layers())
def test_any_finite_layer_comes_back_within_bounds_and_encodes_to_the_same_bytes_again(
    name: CodecName, layer: tuple[Dtype, NDArray[Any]]
) -> None:
    dtype, values = layer
    encoded, decoded = round_trip(create_codec(name), values, dtype)
    assert np.isfinite(decoded.astype(np.float32)).all()
    assert_within_bounds(name, dtype, values, decoded)
    again, same = round_trip(create_codec(name), decoded, dtype)
    assert again == encoded and same.tobytes() == decoded.tobytes()


@every_dtype
@every_lossy_codec
def test_a_channel_of_zeros_beside_one_of_extremes_stays_zero(
    name: CodecName, dtype: Dtype
) -> None:
    values = normal(dtype)
    values[..., 0] = 0
    values[..., 1], values[..., 2] = EXTREMES[dtype]
    _, decoded = round_trip(create_codec(name), values, dtype)
    assert not decoded[..., 0].astype(np.float32).any()
    assert_within_bounds(name, dtype, values, decoded)


@every_dtype
@every_lossy_codec
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_layer_that_is_not_finite_is_refused(name: CodecName, dtype: Dtype, bad: float) -> None:
    values = normal(dtype)
    values[1, 0, 5, 2] = bad
    with pytest.raises(ValueError, match=f"{name} cannot represent .* 1 of 16 channels"):
        round_trip(create_codec(name), values, dtype)
