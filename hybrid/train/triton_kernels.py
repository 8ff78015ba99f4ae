"""The two passes of triton_engine.py, one program a sequence. Importable without Triton, so that modules can be walked.

What the threads of a program hand to each other goes through global memory (a few thousand numbers, which stay in the
caches) and is ordered by tl.debug_barrier: bar.sync makes the reads and writes before it visible to the whole block.
Three kinds of hazard are to be kept apart, and every one has a barrier in its way: a vector is written and then read;
it is read and then written again in the next frame; and the two steps of a frame use different vectors, so that no
step reads what it writes. (The exception, `kept` in the backward pass, is read and written by the same thread.)

Where SHARED, the vector that arcs pick from is a tensor of the program: tl.gather puts it into shared memory, where
32 picks at random take some four turns; from the L1 cache they take about as many as lines of the cache are met.
"""

from __future__ import annotations

try:
    import triton
    import triton.language as tl

    jit = triton.jit
except ImportError:  # triton_engine.import_triton says what to do

    def jit(function):  # type: ignore[no-untyped-def]
        return function


@jit
def _tile_sums(index, weight, values, whole, tile, filled, LEVEL: tl.constexpr, TILE: tl.constexpr,
               WEIGHTED: tl.constexpr, SHARED: tl.constexpr):  # fmt: skip
    """Sums of the rows of one tile, [TILE >> LEVEL]; filled: elements that belong to rows."""
    lane = tl.arange(0, TILE)
    mask = lane < (filled + 7) // 8 * 8  # eight at a time, so that reads of 16 bytes stay whole
    element = tile * TILE + lane
    if WEIGHTED:
        picked = tl.load(index + element, mask=mask, other=0).to(tl.int32)
        factor = tl.load(weight + element, mask=mask, other=0.0)
        if SHARED:
            product = factor * tl.gather(whole, picked, 0)
        else:
            product = factor * tl.load(values + picked, mask=mask, other=0.0)
    else:
        picked = tl.load(index + element, mask=mask, other=-1).to(tl.int32)
        product = tl.load(values + picked, mask=picked >= 0, other=0.0)
    return tl.sum(tl.reshape(product, [TILE >> LEVEL, 1 << LEVEL]), 1)


@jit
def _block_sums(index, weight, values, whole, block, ROWS: tl.constexpr, TILES: tl.constexpr, CHUNKS: tl.constexpr,
                LEVEL: tl.constexpr, TILE: tl.constexpr, WEIGHTED: tl.constexpr, SHARED: tl.constexpr):  # fmt: skip
    """Sums of a block of rows of class LEVEL: of one tile, or of CHUNKS tiles in the last class."""
    first = ROWS[LEVEL] + block * (TILE >> LEVEL)
    filled = (ROWS[LEVEL + 1] - first) << LEVEL
    if CHUNKS > 1 and LEVEL == len(TILES) - 2:
        tile = TILES[LEVEL] + block * CHUNKS
        sums = _tile_sums(index, weight, values, whole, tile, filled, LEVEL, TILE, WEIGHTED, SHARED)
        for chunk in range(1, CHUNKS):
            sums += _tile_sums(index, weight, values, whole, tile + chunk, filled, LEVEL, TILE, WEIGHTED, SHARED)
    else:
        tile = TILES[LEVEL] + block
        sums = _tile_sums(index, weight, values, whole, tile, filled, LEVEL, TILE, WEIGHTED, SHARED)
    return sums


@jit
def _scatter_sums(index, weight, target, values, whole, out, ROWS: tl.constexpr, TILES: tl.constexpr,
                  CHUNKS: tl.constexpr, TILE: tl.constexpr, WEIGHTED: tl.constexpr, SHARED: tl.constexpr):  # fmt: skip
    """out[target] = the sums of all rows."""
    for LEVEL in tl.static_range(len(ROWS) - 1):
        for block in range(tl.cdiv(ROWS[LEVEL + 1] - ROWS[LEVEL], TILE >> LEVEL)):
            sums = _block_sums(index, weight, values, whole, block, ROWS, TILES, CHUNKS, LEVEL, TILE, WEIGHTED, SHARED)
            row = ROWS[LEVEL] + block * (TILE >> LEVEL) + tl.arange(0, TILE >> LEVEL)
            mask = row < ROWS[LEVEL + 1]
            tl.store(out + tl.load(target + row, mask=mask, other=0), sums, mask=mask)


@jit
def _dot(values, factors, SIZE: tl.constexpr, TILE: tl.constexpr):
    """sum of values * factors."""
    total = tl.zeros([TILE], tl.float32)
    for block in range(tl.cdiv(SIZE, TILE)):
        at = block * TILE + tl.arange(0, TILE)
        total += tl.load(values + at, mask=at < SIZE, other=0.0) * tl.load(factors + at, mask=at < SIZE, other=0.0)
    return tl.sum(total, 0)


@jit
def _total(values, SIZE: tl.constexpr, TILE: tl.constexpr):
    """sum of values."""
    total = tl.zeros([TILE], tl.float32)
    for block in range(tl.cdiv(SIZE, TILE)):
        at = block * TILE + tl.arange(0, TILE)
        total += tl.load(values + at, mask=at < SIZE, other=0.0)
    return tl.sum(total, 0)


@jit
def forward(logits, best, order, frames, begins, alphas, kept, sums, longest,
            arc_index, arc_weight, slot_pdf, slot_leak, node_index, node_target,
            STATES: tl.constexpr, SLOTS: tl.constexpr, PDFS: tl.constexpr,
            ARC_ROWS: tl.constexpr, ARC_TILES: tl.constexpr, ARC_CHUNKS: tl.constexpr,
            NODE_ROWS: tl.constexpr, NODE_TILES: tl.constexpr, NODE_CHUNKS: tl.constexpr,
            LEAKY: tl.constexpr, TILE: tl.constexpr, WHOLE: tl.constexpr, SHARED: tl.constexpr):  # fmt: skip
    """All frames of a sequence: v_t into kept [frames, SLOTS], s_t into sums; alphas [STATES] is start, then alpha_T.

    WHOLE: the power of two that holds STATES. alphas is not divided by s_t: whoever reads it does that.
    """
    program = tl.program_id(0)
    sequence = tl.load(order + program).to(tl.int64)
    count = tl.load(frames + program)
    alpha = alphas + program.to(tl.int64) * STATES
    state = tl.arange(0, WHOLE)
    scale = tl.full((), 1.0, tl.float32)
    v = kept + tl.load(begins + program) * SLOTS
    x = logits + sequence * longest * PDFS
    best += sequence * longest
    sums += sequence * longest
    for t in range(count):
        top = tl.load(best + t)
        whole = tl.load(alpha + state, mask=state < STATES, other=0.0) if SHARED else scale
        for LEVEL in tl.static_range(len(ARC_ROWS) - 1):
            for block in range(tl.cdiv(ARC_ROWS[LEVEL + 1] - ARC_ROWS[LEVEL], TILE >> LEVEL)):
                u = _block_sums(arc_index, arc_weight, alpha, whole, block, ARC_ROWS, ARC_TILES, ARC_CHUNKS,
                                LEVEL, TILE, True, SHARED) / scale  # fmt: skip
                slot = ARC_ROWS[LEVEL] + block * (TILE >> LEVEL) + tl.arange(0, TILE >> LEVEL)
                mask = slot < ARC_ROWS[LEVEL + 1]
                if LEAKY:
                    u += tl.load(slot_leak + slot, mask=mask, other=0.0)
                pdf = tl.load(slot_pdf + slot, mask=mask, other=0).to(tl.int32)
                emitted = tl.exp(tl.load(x + pdf, mask=mask, other=0.0).to(tl.float32) - top)
                tl.store(v + slot, u * emitted, mask=mask)
        tl.debug_barrier()
        _scatter_sums(node_index, arc_weight, node_target, v, whole, alpha, NODE_ROWS, NODE_TILES, NODE_CHUNKS,
                      TILE, False, False)  # fmt: skip
        tl.debug_barrier()
        scale = _total(alpha, STATES, TILE)
        tl.store(sums + t, scale)
        v += SLOTS
        x += PDFS


@jit
def backward(logits, best, order, frames, begins, betas, moved, kept, sums, posteriors, longest,
             back_index, back_weight, back_target, slot_pdf, slot_node, leak, pdf_index, pdf_target,
             STATES: tl.constexpr, SLOTS: tl.constexpr, PDFS: tl.constexpr,
             BACK_ROWS: tl.constexpr, BACK_TILES: tl.constexpr, BACK_CHUNKS: tl.constexpr,
             PDF_ROWS: tl.constexpr, PDF_TILES: tl.constexpr, PDF_CHUNKS: tl.constexpr,
             LEAKY: tl.constexpr, TILE: tl.constexpr, WHOLE: tl.constexpr, SHARED: tl.constexpr):  # fmt: skip
    """All frames of a sequence, from the last: the posteriors. betas [STATES] is beta_T; moved [SLOTS] holds w_t.

    WHOLE: the power of two that holds SLOTS. v_t in kept is replaced by the posteriors of the slots.
    """
    program = tl.program_id(0)
    sequence = tl.load(order + program).to(tl.int64)
    count = tl.load(frames + program)
    beta = betas + program.to(tl.int64) * STATES
    w = moved + program.to(tl.int64) * SLOTS
    slots = tl.arange(0, WHOLE)
    jump = tl.full((), 0.0, tl.float32)  # eps sum_j pi(j) beta'(j)
    v = kept + (tl.load(begins + program) + count) * SLOTS
    x = logits + (sequence * longest + count) * PDFS
    out = posteriors + (sequence * longest + count) * PDFS
    best += sequence * longest
    sums += sequence * longest
    for passed in range(count):
        t = count - 1 - passed
        v -= SLOTS
        x -= PDFS
        out -= PDFS
        top = tl.load(best + t)
        scale = tl.load(sums + t)
        for block in range(tl.cdiv(SLOTS, TILE)):
            slot = block * TILE + tl.arange(0, TILE)
            mask = slot < SLOTS
            node = tl.load(slot_node + slot, mask=mask, other=0).to(tl.int32)
            after = (tl.load(beta + node, mask=mask, other=0.0) + jump) / scale
            pdf = tl.load(slot_pdf + slot, mask=mask, other=0).to(tl.int32)
            emitted = tl.exp(tl.load(x + pdf, mask=mask, other=0.0).to(tl.float32) - top)
            tl.store(w + slot, emitted * after, mask=mask)
            tl.store(v + slot, tl.load(v + slot, mask=mask, other=0.0) * after, mask=mask)
        tl.debug_barrier()
        whole = tl.load(w + slots, mask=slots < SLOTS, other=0.0) if SHARED else scale
        _scatter_sums(back_index, back_weight, back_target, w, whole, beta, BACK_ROWS, BACK_TILES, BACK_CHUNKS,
                      TILE, True, SHARED)  # fmt: skip
        _scatter_sums(pdf_index, back_weight, pdf_target, v, whole, out, PDF_ROWS, PDF_TILES, PDF_CHUNKS,
                      TILE, False, False)  # fmt: skip
        tl.debug_barrier()
        if LEAKY:
            jump = _dot(beta, leak, STATES, TILE)
