"""Keys that were moved are those of a text at another position."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache

from actors.engine.fusion.rotation import Rotation
from actors.engine.models import Decoder, load_decoder
from actors.errors import UnsupportedModelError
from tests.actors.engine.conftest import FAMILIES
from tests.actors.training.tiny import save_tiny

IDS = torch.tensor([[5, 9, 33, 7, 101, 64, 2, 18]])


def keys_at(model: Any, first: int) -> torch.Tensor:
    """[L, Hkv, T, dh] of a text whose positions begin at `first`, of a stock model."""
    cache = DynamicCache()
    positions = torch.arange(first, first + IDS.shape[1])[None]
    with torch.inference_mode():
        model(IDS, position_ids=positions, past_key_values=cache)
    return torch.stack([layer.keys[0] for layer in cache.layers])


OTHERS = ("glm", "glm4", "cohere", "cohere2", "ernie4_5", "helium", "smollm3", "exaone4")
"""Pairs that are interleaved, dimensions that do not turn, layers without RoPE."""


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS, "gpt_oss"], indirect=True)
@pytest.mark.parametrize("distance", [1, 57, 200])
def test_moved_keys_are_those_of_the_text_at_its_new_place_in_every_layer(
    build_tiny: Callable[[], tuple[Decoder, Any]], distance: int
) -> None:
    decoder, stock = build_tiny()
    before, after = keys_at(stock, 0), keys_at(stock, distance)
    assert (after - before).abs().max() > 0.01
    rotation = Rotation.of(decoder)
    moved = rotation.move(before, distance, out=torch.empty_like(before))
    torch.testing.assert_close(moved, after, atol=1e-4, rtol=0)
    back = rotation.move(moved, -distance, out=moved)
    torch.testing.assert_close(back, before, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["smollm3"], indirect=True)
def test_layers_without_rope_keep_their_keys(
    build_tiny: Callable[[], tuple[Decoder, Any]],
) -> None:
    decoder, stock = build_tiny()
    keys = keys_at(stock, 3)
    moved = Rotation.of(decoder).move(keys, 11, out=torch.empty_like(keys))
    assert [torch.equal(*both) for both in zip(moved, keys, strict=True)] == [False, True, False]


def test_learned_positions_are_refused_by_name(tmp_path: Path) -> None:
    decoder = load_decoder(save_tiny("gpt2", tmp_path))
    with pytest.raises(UnsupportedModelError, match="'gpt2' is refused.*'prefix' serves it"):
        Rotation.of(decoder)


def test_one_layer_moves_as_it_does_among_all(
    build_tiny: Callable[[], tuple[Decoder, Any]],
) -> None:
    decoder, stock = build_tiny()
    keys = keys_at(stock, 3)
    rotation = Rotation.of(decoder)
    moved = rotation.move(keys, 11, out=torch.empty_like(keys))
    for layer in range(len(keys)):
        alone = keys[layer : layer + 1].clone()
        assert torch.equal(rotation.layer(layer).move(alone, 11, out=alone)[0], moved[layer])


@given(there=st.integers(-4000, 4000), further=st.integers(-4000, 4000))
def test_two_moves_are_one(there: int, further: int) -> None:
    rotation = Rotation(10_000.0 ** -(torch.arange(8) / 8)[None])
    keys = torch.randn(2, 3, 5, 16, generator=torch.Generator().manual_seed(1))
    twice = rotation.move(keys, there, out=torch.empty_like(keys))
    twice = rotation.move(twice, further, out=twice)
    once = rotation.move(keys, there + further, out=torch.empty_like(keys))
    torch.testing.assert_close(twice, once, atol=5e-3, rtol=0)


def test_dimensions_that_do_not_turn_stay() -> None:
    rotation = Rotation(torch.ones(1, 2))
    keys = torch.randn(1, 1, 4, 6)
    moved = rotation.move(keys, 3, out=torch.empty_like(keys))
    assert torch.equal(moved[..., 4:], keys[..., 4:])
    assert not torch.equal(moved[..., :4], keys[..., :4])
