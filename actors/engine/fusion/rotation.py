"""Moving stored keys to other positions (FusionRAG, Eq. 12-16; ALGORITHMS 5.2).

RoPE(RoPE(k, s), d) = RoPE(k, s + d): a segment moves by one constant rotation of all its keys.

Families differ in which dimensions form a pair and in which layers turn their keys at all. That is
not looked up but measured: the keys of one text at two places must be each other, moved.
"""

from typing import Any, Self

import torch
from torch import Tensor

from actors.engine.fusion.probe import Probe
from actors.engine.lanes import Lane
from actors.engine.models import Decoder
from actors.engine.packed import Batch
from actors.errors import UnsupportedModelError
from kvstore.types import Dtype

_DISTANCE, _NUM_TOKENS = 101, 16
_LIMITS: dict[Dtype, float] = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.1}
"""How far moved keys may be from those of the text at its new place, as a share of these. Keys that
are turned wrongly, or not at all, are off by about as much as they are large."""
_REMEDY = "generator.mode 'prefix' serves it without moving keys"


class Rotation:
    """RoPE of one model as a function of a distance. Of its scaling only the frequencies are
    applied: stored keys have a magnitude factor already."""

    def __init__(self, frequencies: Tensor, interleaved: bool = False) -> None:
        """`frequencies`: radians per position [L or 1, r / 2], fp32. Of each head's dimensions the
        first r turn, in pairs (i, i + r / 2), or (2 i, 2 i + 1) where they are `interleaved`."""
        self._frequencies, self._interleaved = frequencies, interleaved

    @classmethod
    def of(cls, decoder: Decoder) -> Self:
        """The one that moves this model's keys, in every layer. Raises UnsupportedModelError where
        none does: positions that are learned, or that a layer adds elsewhere."""
        frequencies = _frequencies(decoder)
        here, there = _keys(decoder, 0), _keys(decoder, _DISTANCE)
        still = _errors(here, there)
        tried = []
        for interleaved in (False, True):
            turned = cls(frequencies, interleaved).move(here, _DISTANCE, torch.empty_like(here))
            errors = _errors(turned, there)
            turns = (errors < still).to(frequencies)[:, None]  # layers without RoPE keep their keys
            worst = float(torch.minimum(errors, still).max())
            tried.append((worst, cls(frequencies * turns, interleaved)))
        worst, found = min(tried, key=lambda each: each[0])
        if not worst <= _LIMITS[decoder.dtype]:
            reason = (
                "generator.mode 'fusion' and 'auto' move stored keys, and its moved keys differ "
                f"from those at the new place by a share of {worst:.2g} "
                f"(limit {_LIMITS[decoder.dtype]:g})"
            )
            raise UnsupportedModelError(decoder.model.config.model_type, reason, _REMEDY)
        return found

    def layer(self, layer: int) -> "Rotation":
        """Of one layer alone."""
        row = layer % len(self._frequencies)
        return Rotation(self._frequencies[row : row + 1], self._interleaved)

    def move(self, states: Tensor, distance: int, out: Tensor) -> Tensor:
        """Write keys (or queries) [L, H, T, dh] as they are `distance` positions later, or earlier
        where it is below 0, to `out` of that shape, which may be `states`. In fp32, then cast."""
        half = self._frequencies.shape[1]
        angles = (self._frequencies * distance)[:, None, None]
        cos, sin = angles.cos(), angles.sin()
        if self._interleaved:
            one, other = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
        else:
            one, other = slice(0, half), slice(half, 2 * half)
        first, second = states[..., one].float(), states[..., other].float()
        turned = (first * cos).addcmul_(second, sin, value=-1)
        out[..., other] = (second * cos).addcmul_(first, sin)
        out[..., one] = turned
        out[..., 2 * half :] = states[..., 2 * half :]
        return out


def _frequencies(decoder: Decoder) -> Tensor:
    """[L or 1, r / 2] in fp32; layers may differ by type (Gemma 3). None turn where the model has
    no RoPE that transformers knows."""
    rotary: Any = getattr(decoder.model.get_decoder(), "rotary_emb", None)
    kinds = getattr(decoder.model.config.get_text_config(decoder=True), "layer_types", None) or ()
    found = torch.zeros(1, 0, device=decoder.device)
    if hasattr(rotary, "inv_freq"):
        found = rotary.inv_freq.float()[None]
    elif kinds and all(hasattr(rotary, f"{kind}_inv_freq") for kind in kinds):
        rows = [getattr(rotary, f"{kind}_inv_freq").float() for kind in kinds]
        width = max(map(len, rows))  # some turn fewer dimensions in one type of layer
        found = torch.stack([torch.nn.functional.pad(row, (0, width - len(row))) for row in rows])
    return found[:, : decoder.layout.head_dim // 2]


def _keys(decoder: Decoder, first: int) -> Tensor:
    """Keys [L, Hkv, T, dh] of a text alone whose positions begin at `first`."""
    size = int(decoder.model.get_input_embeddings().weight.shape[0])
    ids = torch.randint(size, (_NUM_TOKENS,), generator=torch.Generator().manual_seed(5)).tolist()
    found: dict[int, Tensor] = {}

    def look(layer: int, q: Tensor, k: Tensor, v: Tensor, how: Any) -> None:
        found[layer] = k.clone()

    Probe(Batch([Lane(ids)]), decoder.layout.num_layers - 1, look, first).run(decoder)
    return torch.stack([found[layer] for layer in range(decoder.layout.num_layers)])


def _errors(moved: Tensor, wanted: Tensor) -> Tensor:
    """[L]: distance of keys from those that are wanted, as a share of these."""
    away = torch.linalg.vector_norm(moved.float() - wanted.float(), dim=(1, 2, 3))
    size = torch.linalg.vector_norm(wanted.float(), dim=(1, 2, 3))
    shares: Tensor = away / size.clamp_min(1e-12)
    return shares
