"""Moving stored keys to other positions (FusionRAG, Eq. 12-16; ALGORITHMS 5.2).

RoPE(RoPE(k, s), d) = RoPE(k, s + d): a segment moves by one constant rotation of all its keys.
"""

from typing import Any, Self

import torch
from torch import Tensor


class Rotation:
    """RoPE of one model as a function of a distance. Of its scaling only the frequencies are
    applied: stored keys have a magnitude factor already."""

    def __init__(self, frequencies: Tensor) -> None:
        """Radians per position [L or 1, r / 2], fp32. Of each head's dimensions the first r turn,
        in pairs (i, i + r / 2)."""
        self._frequencies = frequencies

    @classmethod
    def of(cls, model: Any) -> Self:
        """Of a decoder-only model of transformers; layers may differ by type (Gemma 3)."""
        rotary = model.get_decoder().rotary_emb
        if hasattr(rotary, "inv_freq"):
            return cls(rotary.inv_freq.float()[None])
        kinds = model.config.layer_types
        return cls(torch.stack([getattr(rotary, f"{kind}_inv_freq") for kind in kinds]).float())

    def layer(self, layer: int) -> "Rotation":
        """Of one layer alone."""
        row = layer % len(self._frequencies)
        return Rotation(self._frequencies[row : row + 1])

    def move(self, states: Tensor, distance: int, out: Tensor) -> Tensor:
        """Write keys (or queries) [L, H, T, dh] as they are `distance` positions later, or earlier
        where it is below 0, to `out` of that shape, which may be `states`. In fp32, then cast."""
        half = self._frequencies.shape[1]
        angles = (self._frequencies * distance)[:, None, None]
        cos, sin = angles.cos(), angles.sin()
        first, second = states[..., :half].float(), states[..., half : 2 * half].float()
        turned = (first * cos).addcmul_(second, sin, value=-1)
        out[..., half : 2 * half] = (second * cos).addcmul_(first, sin)
        out[..., :half] = turned
        out[..., 2 * half :] = states[..., 2 * half :]
        return out
