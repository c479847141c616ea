"""The Triton kernel behind `sparse_attention`. Loading this module needs triton, not a GPU.

One program computes one tile of one KV head: BLOCK_M rows, of which row m is token m // GROUPS
under query head m % GROUPS, as in `kernel.py`. Tokens lie at ascending positions, so a tile walks
the keys from the oldest that its first token sees up to its last token's own, and no others (block
skipping).
"""

import triton
import triton.language as tl

from actors.engine.cuda.kernel import LOG2E, _attend


# Prompts of other lengths are not to be compiled apart.
@triton.jit(do_not_specialize=["num_tokens"])  # type: ignore[untyped-decorator]
def sparse_kernel(  # type: ignore[no-untyped-def]
    q, keys, values, out, positions, sinks,
    num_tokens, scale, softcap, window,
    q_row, q_head, key_row, key_head, value_row, value_head, out_row, out_head,
    GROUPS: tl.constexpr, DH: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr, HAS_WINDOW: tl.constexpr, HAS_SINKS: tl.constexpr,
):  # fmt: skip
    """Grid (tiles of all tokens, KV heads). Shapes as in `sparse_attention`; `*_row` and `*_head`
    are strides in elements."""
    first_m = tl.program_id(0) * BLOCK_M
    kv_head = tl.program_id(1)
    m = first_m + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    token = m // GROUPS
    head = kv_head * GROUPS + m % GROUPS
    real = (token < num_tokens)[:, None] & (d < DH)[None, :]
    rows = q + token[:, None] * q_row + head[:, None] * q_head
    tile = tl.load(rows + d[None, :], mask=real, other=0.0)
    # Behind the last token: -1, a place that sees nothing.
    q_at = tl.load(positions + token, mask=token < num_tokens, other=-1).to(tl.int32)
    end = tl.max(q_at, 0) + 1
    lead = end * 0
    if HAS_WINDOW:
        oldest = tl.load(positions + first_m // GROUPS).to(tl.int32) - window + 1
        lead = tl.maximum(oldest, 0) // BLOCK_T * BLOCK_T

    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    top = tl.full([BLOCK_M], -float("inf"), tl.float32)
    if HAS_SINKS:
        top = tl.load(sinks + head).to(tl.float32) * LOG2E
        total += 1.0
    key_base, value_base = keys + kv_head * key_head, values + kv_head * value_head
    for t0 in range(lead, end, BLOCK_T):
        acc, top, total = _attend(
            acc, top, total, tile, key_base, value_base, key_row, value_row, t0, end, q_at, 0, 1,
            scale, softcap, window,
            DH, BLOCK_T, BLOCK_D, HAS_SOFTCAP, HAS_WINDOW,
        )  # fmt: skip

    result = tl.where(real, acc / tl.where(total > 0, total, 1.0)[:, None], 0.0)
    rows = out + token[:, None] * out_row + head[:, None] * out_head
    tl.store(rows + d[None, :], result.to(out.dtype.element_ty), mask=real)
