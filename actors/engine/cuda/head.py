"""Log-probabilities of given tokens from blocks of logits, each read once."""

from typing import Any

import torch
from torch import Tensor

from actors.engine.head import Head

_ROWS = 1024
"""Of the vocabulary matrix product at a time: 1024 x 256,000 logits are 524 MB in bf16."""


@torch.inference_mode()
def target_log_probs(model: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    """log Pr of targets [R] at the last hidden states [R, d] of a causal model, fp32 [R]."""
    head = Head.of(model)
    out = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
    for start in range(0, len(targets), _ROWS):
        block = slice(start, start + _ROWS)
        out[block] = log_probs_of(head.scaled(hidden[block]), targets[block], head.softcap)
    return out


def log_probs_of(logits: Tensor, targets: Tensor, cap: float | None) -> Tensor:
    """logits [R, V], contiguous, before their soft-cap; fp32 [R]. Runs where triton runs."""
    from actors.engine.cuda.head_kernel import log_probs_kernel

    assert logits.is_contiguous(), logits.stride()
    out = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    launch: Any = log_probs_kernel[(len(logits),)]
    launch(logits, targets, out, logits.shape[1], cap or 0.0, HAS_CAP=cap is not None, BLOCK=4096)
    return out
