"""Attention over KV that was stored before, merged with the tokens of this pass.

A packed batch is one row of tokens of many sequences ("lanes"). Each lane attends to parts: KV
that all lanes share (the prompt prefix), its own stored KV, and its own new tokens, causally. The
parts' outputs are merged by their log-sum-exp, which is exact (ALGORITHMS 1.7, cascade attention).

Registered with transformers as `hyperrag`; no mask function is registered, so transformers makes
no mask and positions alone decide what is seen.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from transformers import AttentionInterface

NAME = "hyperrag"
NO_WEIGHT = -1e30
"""Log-sum-exp of a part without keys: finite, so that its share is zero and not NaN."""
KEY_STEP = 32
"""Key slots in multiples of this: the fused kernel sums the rest of a vector in another order."""


class How(NamedTuple):
    scaling: float
    softcap: float | None
    window: int | None
    sinks: Tensor | None = None
    """[H]: a logit that each head's softmax counts beside the keys' and that gives no value
    (attention sinks, gpt-oss). `fused` and `merge` know them; a part alone is computed without."""


class State(NamedTuple):
    """Output [B, H, T, dh] of one part, and its log-sum-exp [B, H, T] in fp32."""

    out: Tensor
    lse: Tensor


def part(
    q: Tensor, k: Tensor, v: Tensor, how: How, q_start: int, k_start: int, causal: bool
) -> State:
    """Attend q [B, H, T, dh] to k, v [B, Hkv, S, dh] that begin at the given positions.

    `causal` may be False only where every key precedes every query.
    """
    if fused(q, how, reach=q_start + q.shape[2] - k_start):
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, causal, attn_mask=None, scale=how.scaling
        )
        return State(out, lse)
    return reference_part(q, k, v, how, q_start, k_start, causal)


def part_masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scaling: float) -> Tensor:
    """Fused attention on a CPU under an additive mask [B, 1, T, S] of the query's dtype; every row
    must see a key. Without the statistics of `part`: it is for all keys at once."""
    out, _ = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, False, attn_mask=mask, scale=scaling
    )
    return cast(Tensor, out)


def lone_row(num_rows: int) -> int:
    """1 where the fused kernel would multiply the last of so many queries alone, as a vector: that
    sums in another order, unless one more row goes with it."""
    return int(num_rows % KEY_STEP == 1)


def fused(q: Tensor, how: How, reach: int) -> bool:
    """Whether the fused CPU kernel may be used: it knows no soft-cap, no window and no sinks."""
    windowed = how.window is not None and reach > how.window
    plain = how.softcap is None and how.sinks is None
    return q.device.type == "cpu" and plain and not windowed


def reference_part(
    q: Tensor, k: Tensor, v: Tensor, how: How, q_start: int, k_start: int, causal: bool
) -> State:
    """The same with scores in fp32 and masks by position: any device, soft-cap and window."""
    q_pos = torch.arange(q_start, q_start + q.shape[2], device=q.device)
    k_pos = torch.arange(k_start, k_start + k.shape[2], device=q.device)
    return attend_at(q, k, v, how, q_pos, k_pos, causal)


def attend_at(
    q: Tensor, k: Tensor, v: Tensor, how: How, q_pos: Tensor, k_pos: Tensor, causal: bool = True
) -> State:
    """Queries at positions q_pos [T] over keys at positions k_pos [S], in any order."""
    groups = q.shape[1] // k.shape[1]
    k, v = (t.repeat_interleave(groups, dim=1) for t in (k, v))
    scores = q.float() @ k.float().transpose(-1, -2) * how.scaling
    if how.softcap is not None:
        scores = how.softcap * torch.tanh(scores / how.softcap)
    distance = q_pos[:, None] - k_pos[None, :]
    hidden = torch.zeros_like(distance, dtype=torch.bool)
    if causal:
        hidden |= distance < 0
    if how.window is not None:
        hidden |= distance >= how.window
    scores = scores.masked_fill(hidden, -torch.inf)
    lse = scores.logsumexp(-1).clamp_min(NO_WEIGHT)  # a row may be wholly outside the window
    return State((scores - lse[..., None]).exp().to(v.dtype) @ v, lse)


def merge(states: Sequence[State], sinks: Tensor | None = None) -> Tensor:
    """Weigh parts by the share of the softmax that each one holds; [B, H, T, dh]. Sinks [H] take
    their share of it and give nothing."""
    if sinks is not None:
        out, lse = states[0]
        drained = sinks.to(lse)[None, :, None].expand_as(lse)
        states = [*states, State(torch.zeros_like(out), drained)]
    if len(states) == 1:
        return states[0].out
    lse = torch.stack([s.lse for s in states])
    weights = lse.softmax(0)[..., None]
    total = weights[0] * states[0].out
    for weight, state in zip(weights[1:], states[1:], strict=True):
        total = torch.addcmul(total, weight, state.out.to(total.dtype))
    return total


def _attention(
    module: Any,
    query: Tensor,
    key: Any,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    sliding_window: int | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in every layer; `key` is what `PackedCache.update` returned."""
    batch, new_keys = key
    how = How(scaling, softcap, sliding_window, s_aux)
    out = batch.attend(module.layer_idx, query, new_keys, value, how)
    return out.transpose(1, 2).to(query.dtype).contiguous(), None


def register() -> None:
    """Make `attn_implementation="hyperrag"` known to transformers in this process."""
    AttentionInterface.register(NAME, _attention)
