"""The Triton kernel behind `cascade_attention`. Loading this module needs triton, not a GPU.

One program computes one tile of one KV head of one lane: BLOCK_M rows, of which row m is new token
m // GROUPS under query head m % GROUPS, so a key is read once for all heads that share it. It walks
the lane's stored parts in order of position, then the lane's own new tokens causally, with the
softmax statistics in fp32 (online softmax, as in FlashAttention, arXiv 2205.14135). Parts are read
where they lie: `table` holds their addresses.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit  # type: ignore[untyped-decorator]
def _attend(  # type: ignore[no-untyped-def]
    acc, top, total, q, keys, values, key_row, value_row, t0, end, q_at, k_at, own,
    scale, softcap, window,
    DH: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr, HAS_WINDOW: tl.constexpr,
):  # fmt: skip
    """Take keys [t0, min(t0 + BLOCK_T, end)) into the statistics of the tile's rows.

    Positions: of the rows `q_at` [BLOCK_M], of key 0 `k_at`. `own`: later keys are hidden.
    """
    t = t0 + tl.arange(0, BLOCK_T)
    d = tl.arange(0, BLOCK_D)
    there = (t < end)[:, None] & (d < DH)[None, :]
    k = tl.load(
        tl.multiple_of(keys + t[:, None] * key_row + d[None, :], (1, 16)), mask=there, other=0.0
    )
    score = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    if HAS_SOFTCAP:  # tanh(x) = 2 sigmoid(2 x) - 1
        score = softcap * (2 * tl.sigmoid(2 * score / softcap) - 1)
    distance = q_at[:, None] - (k_at + t)[None, :]
    seen = (t < end)[None, :] & ((distance >= 0) | (own == 0))
    if HAS_WINDOW:
        seen = seen & (distance < window)
    score = tl.where(seen, score * LOG2E, -float("inf"))
    new_top = tl.maximum(top, tl.max(score, 1))
    # A row that has seen no key yet: -inf - -inf would be NaN.
    shift = tl.where(new_top == -float("inf"), 0.0, new_top)
    weight = tl.exp2(score - shift[:, None])
    fade = tl.exp2(top - shift)
    v = tl.load(
        tl.multiple_of(values + t[:, None] * value_row + d[None, :], (1, 16)), mask=there, other=0.0
    )
    acc = acc * fade[:, None]
    acc = tl.dot(weight.to(v.dtype), v, acc, input_precision="ieee")
    return acc, new_top, total * fade + tl.sum(weight, 1)


# Layers, and passes of other part counts, are not to be compiled apart.
@triton.jit(do_not_specialize=["layer", "num_parts"])  # type: ignore[untyped-decorator]
def cascade_kernel(  # type: ignore[no-untyped-def]
    q, k, v, out, table, strides, lengths, starts, widths, sinks,
    layer, num_parts, kv_heads, scale, softcap, window,
    q_row, q_head, k_row, k_head, v_row, v_head, out_row, out_head,
    GROUPS: tl.constexpr, DH: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
    HAS_SOFTCAP: tl.constexpr, HAS_WINDOW: tl.constexpr, HAS_SINKS: tl.constexpr,
):  # fmt: skip
    """Grid (tiles of the widest lane, KV heads, lanes). Shapes as in `cascade_attention`;
    `*_row` and `*_head` are strides in elements, `strides` those from layer to layer in bytes."""
    first_m = tl.program_id(0) * BLOCK_M
    kv_head = tl.program_id(1)
    lane = tl.program_id(2)
    start = tl.load(starts + lane)
    room = (tl.load(starts + lane + 1) - start).to(tl.int32)
    width = tl.load(widths + lane).to(tl.int32)

    m = first_m + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    step = m // GROUPS
    head = kv_head * GROUPS + m % GROUPS
    real = (step < width)[:, None] & (d < DH)[None, :]
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)

    if first_m < width * GROUPS:
        top = tl.full([BLOCK_M], -float("inf"), tl.float32)
        if HAS_SINKS:  # as a key that was seen already and has no value
            top = tl.load(sinks + head).to(tl.float32) * LOG2E
            total += 1.0
        rows = q + start * q_row + step[:, None] * q_row + head[:, None] * q_head
        tile = tl.load(rows + d[None, :], mask=real, other=0.0)
        first = width * 0  # position of the lane's first new token
        for p in range(num_parts):
            first += tl.load(lengths + lane * num_parts + p).to(tl.int32)
        q_at = first + step
        oldest = first + first_m // GROUPS - window + 1  # that the tile's first row sees
        begin = width * 0  # position of the part's first key
        for p in range(num_parts):
            cell = lane * num_parts + p
            length = tl.load(lengths + cell).to(tl.int32)
            base = tl.load(table + cell) + layer * tl.load(strides + cell)
            keys = base.to(tl.pointer_type(q.dtype.element_ty)) + kv_head * length * DH
            values = keys + kv_heads * length * DH
            lead = width * 0
            if HAS_WINDOW:
                lead = tl.maximum(oldest - begin, 0) // BLOCK_T * BLOCK_T
            for t0 in range(lead, length, BLOCK_T):
                acc, top, total = _attend(
                    acc, top, total, tile, keys, values, DH, DH, t0, length, q_at, begin, 0,
                    scale, softcap, window,
                    DH, BLOCK_T, BLOCK_D, HAS_SOFTCAP, HAS_WINDOW,
                )  # fmt: skip
            begin += length
        keys = k + start * k_row + kv_head * k_head
        values = v + start * v_row + kv_head * v_head
        lead = width * 0
        if HAS_WINDOW:
            lead = tl.maximum(oldest - first, 0) // BLOCK_T * BLOCK_T
        for t0 in range(lead, tl.minimum(width, (first_m + BLOCK_M - 1) // GROUPS + 1), BLOCK_T):
            acc, top, total = _attend(
                acc, top, total, tile, keys, values, k_row, v_row, t0, width, q_at, first, 1,
                scale, softcap, window,
                DH, BLOCK_T, BLOCK_D, HAS_SOFTCAP, HAS_WINDOW,
            )  # fmt: skip

    result = tl.where(real, acc / tl.where(total > 0, total, 1.0)[:, None], 0.0)
    rows = out + start * out_row + step[:, None] * out_row + head[:, None] * out_head
    tl.store(
        rows + d[None, :],
        result.to(out.dtype.element_ty),
        mask=(step < room)[:, None] & (d < DH)[None, :],
    )
