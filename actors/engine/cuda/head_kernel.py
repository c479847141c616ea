"""The Triton kernel behind `log_probs_of`. Loading this module needs triton, not a GPU."""

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def _capped(x, cap, HAS_CAP: tl.constexpr):  # type: ignore[no-untyped-def]
    x = x.to(tl.float32)
    if HAS_CAP:
        x = cap * (2 * tl.sigmoid(2 * x / cap) - 1)
    return x


@triton.jit  # type: ignore[untyped-decorator]
def log_probs_kernel(  # type: ignore[no-untyped-def]
    logits, targets, out, vocabulary, cap, HAS_CAP: tl.constexpr, BLOCK: tl.constexpr
):
    """One program a row: maximum and sum of every column of the block apart, joined at the end."""
    row = tl.program_id(0)
    first = logits + row.to(tl.int64) * vocabulary
    top = tl.full([BLOCK], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, vocabulary, BLOCK):
        i = start + tl.arange(0, BLOCK)
        x = _capped(tl.load(first + i, mask=i < vocabulary, other=-float("inf")), cap, HAS_CAP)
        x = tl.where(i < vocabulary, x, -float("inf"))  # the cap has made it finite
        new_top = tl.maximum(top, x)
        shift = tl.where(new_top == -float("inf"), 0.0, new_top)
        total = total * tl.exp(top - shift) + tl.exp(x - shift)
        top = new_top
    highest = tl.max(top, 0)
    whole = tl.sum(total * tl.exp(top - highest), 0)
    target = _capped(tl.load(first + tl.load(targets + row)), cap, HAS_CAP)
    tl.store(out + row, target - highest - tl.log(whole))
