"""Products of matrices whose rows have the same bits in any company.

    y[r, n] = b[n] + x[r, 0] w[n, 0] + x[r, 1] w[n, 1] + ...

A library's product adds up as is fastest for the number of rows that it is given: the last bits of a row then depend on
how many others there are, and on which of them it is. Here every sum is taken in the order in which it is written, each
term by a fused multiply-add, rounded once: whatever the rows, the columns and the machine. What makes it fast is left
to what does not change sums: 1 to 6 rows times 64 to 16 columns of them are taken at a time, held in registers.

The code of these tiles is made in LLVM's language, for numba knows no vectors; w lies in blocks of 16 columns, so that
it is read in one run.
"""

from __future__ import annotations

from typing import Any, Optional, Tuple

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor, nn

from hybrid.compiled import compiled

WIDTH = 16  # columns of a block: one or two vectors of the machine, or four
COLUMNS = 64  # that w is filled up to a multiple of, so that a tile of one row has four blocks


def _tile(rows: int, blocks: int) -> Any:
    """The code that adds to `rows` rows of y, from place y_at on, of `width` columns each, those of x times `blocks`
    blocks of w."""

    @intrinsic
    def tile(typingctx: Any, x: Any, x_at: Any, w: Any, w_at: Any, y: Any, y_at: Any, width: Any, dim: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            x, x_at, w, w_at, y, y_at, width, dim = values
            arrays = zip((signature.args[0], signature.args[2], signature.args[4]), (x, w, y))
            x_data, w_data, y_data = (context.make_array(t)(context, builder, value).data for t, value in arrays)
            vector = ir.VectorType(ir.FloatType(), WIDTH)
            fma = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{WIDTH}f32"
            )
            undefined = ir.Constant(vector, ir.Undefined)
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), None)

            def times(value: Any, number: int) -> Any:
                return builder.mul(value, ir.Constant(value.type, number))

            def vector_at(data: Any, place: Any) -> Any:
                return builder.bitcast(builder.gep(data, [place]), vector.as_pointer())

            places = [
                builder.add(builder.add(y_at, times(width, row)), ir.Constant(y_at.type, WIDTH * block))
                for row in range(rows)
                for block in range(blocks)
            ]
            sums = [cgutils.alloca_once(builder, vector) for _ in places]
            for place, total in zip(places, sums):
                builder.store(builder.load(vector_at(y_data, place), align=4), total)
            with cgutils.for_range(builder, dim) as loop:
                columns = []
                for block in range(blocks):
                    begin = builder.add(w_at, times(dim, WIDTH * block))
                    place = builder.add(begin, times(loop.index, WIDTH))
                    columns.append(builder.load(vector_at(w_data, place), align=4))
                for row in range(rows):
                    place = builder.add(builder.add(x_at, times(dim, row)), loop.index)
                    one = builder.insert_element(
                        undefined, builder.load(builder.gep(x_data, [place])), ir.Constant(ir.IntType(32), 0)
                    )
                    factor = builder.shuffle_vector(one, undefined, zeros)
                    for block in range(blocks):
                        total = sums[row * blocks + block]
                        builder.store(builder.call(fma, [factor, columns[block], builder.load(total)]), total)
            for place, total in zip(places, sums):
                builder.store(builder.load(total), vector_at(y_data, place), align=4)
            return context.get_dummy_value()

        return types.void(x, x_at, w, w_at, y, y_at, width, dim), generate

    return tile


_one, _two, _three, _four, _five, _six = (
    _tile(1, 4), _tile(2, 2), _tile(3, 1), _tile(4, 1), _tile(5, 1), _tile(6, 1)
)  # fmt: skip


@compiled
def add_product(x, x_at, rows, w, y, y_at):
    """Add to y, from place y_at on, `rows` rows of x, from place x_at on, times w; x and y flat, w [blocks, dim, 16]
    as `in_blocks` makes it."""
    blocks, dim, _ = w.shape
    flat = w.reshape(w.size)
    size, width = dim * WIDTH, blocks * WIDTH
    whole = rows // 6 * 6
    for block in range(blocks):
        for row in range(0, whole, 6):
            _six(x, x_at + row * dim, flat, block * size, y, y_at + row * width + block * WIDTH, width, dim)
    left, begin, out = rows - whole, x_at + whole * dim, y_at + whole * width
    if left == 1:
        for block in range(0, blocks, 4):
            _one(x, begin, flat, block * size, y, out + block * WIDTH, width, dim)
    elif left == 2:
        for block in range(0, blocks, 2):
            _two(x, begin, flat, block * size, y, out + block * WIDTH, width, dim)
    elif left == 3:
        for block in range(blocks):
            _three(x, begin, flat, block * size, y, out + block * WIDTH, width, dim)
    elif left == 4:
        for block in range(blocks):
            _four(x, begin, flat, block * size, y, out + block * WIDTH, width, dim)
    elif left == 5:
        for block in range(blocks):
            _five(x, begin, flat, block * size, y, out + block * WIDTH, width, dim)


@compiled
def _product(x, rows, w, bias, y):
    width = len(bias)
    for row in range(rows):
        for column in range(width):
            y[row * width + column] = bias[column]
    add_product(x, 0, rows, w, y, 0)


def in_blocks(weight: np.ndarray) -> np.ndarray:
    """Return w [N, D] as float32 [blocks, D, 16], filled up with zeros."""
    outputs, dim = weight.shape
    filled = np.zeros((-(-outputs // COLUMNS) * COLUMNS, dim), np.float32)
    filled[:outputs] = weight
    return np.ascontiguousarray(filled.reshape(-1, WIDTH, dim).transpose(0, 2, 1))


class RowProduct:
    """x [..., D] -> x w' + b [..., N], each row the same bits in any company; w [N, D], b [N] or None.

    Only on the CPU and in float32: on another device, or of another type, it is torch's own product.
    """

    def __init__(self, weight: Tensor, bias: Optional[Tensor] = None) -> None:
        self._weight, self._bias = weight.detach(), None if bias is None else bias.detach()
        self.outputs = len(weight)
        self._ours = weight.device.type == "cpu" and weight.dtype == torch.float32
        if self._ours:
            self._blocks = in_blocks(self._weight.numpy())
            self._offsets = np.zeros(len(self._blocks) * WIDTH, np.float32)
            if self._bias is not None:
                self._offsets[: self.outputs] = self._bias.numpy()

    @classmethod
    def of(cls, layer: nn.Linear) -> RowProduct:
        return cls(layer.weight, layer.bias)

    def __call__(self, x: Tensor) -> Tensor:
        if not self._ours:
            return nn.functional.linear(x, self._weight, self._bias)
        return torch.from_numpy(self.filled(x)[:, : self.outputs]).view(*x.shape[:-1], self.outputs)

    def filled(self, x: Tensor) -> np.ndarray:
        """Return the rows with the columns that w was filled up with, float32 [rows, a multiple of 64]."""
        shape: Tuple[int, ...] = tuple(x.shape)
        rows = int(np.prod(shape[:-1]))
        y = np.empty((rows, len(self._offsets)), np.float32)
        _product(x.contiguous().numpy().reshape(-1), rows, self._blocks, self._offsets, y.reshape(-1))
        return y
