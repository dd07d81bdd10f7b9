"""Matrix products, whose results stay in vector registers until they are complete.

A tile of the result is a few rows by a few vectors of columns. The factors are read where they are:
a product needs no copy of them in another order, which BLAS makes for each block of a matrix, and
no pass over memory for the bias or the leaky_relu. Every value is the sum of its products in their
order, whatever the block and the tile that it belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from dlsys_bench.engines.numba.kernel import inner_kernel, kernel
from dlsys_bench.engines.numba.program.lanes import (
    LANES,
    first_of,
    read,
    select_positive,
    spread,
    vector_of,
    write,
    write_some,
)
from dlsys_bench.engines.numba.program.tiles import TileEmitter, tile_values, unpacked
from dlsys_bench.engines.plan import Array

ROWS = (6, 4, 2, 1)
"""The numbers of rows of a tile."""


def _multiply_tiles(
    typing: Any, a: Any, b: Any, bias: Any, c: Any, sizes: Any, places: Any, slope: Any
) -> Any:
    """Compute c = leaky(a b + bias). See `multiply`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emitter = TileEmitter(context, builder, vector_of(a.dtype))
        pointers = [
            first_of(context, builder, kind, array)
            for kind, array in zip(signature.args[:4], arguments[:4], strict=True)
        ]
        has_bias = context.make_array(bias)(context, builder, arguments[2]).nitems
        (m, n, k), (at, strides) = (unpacked(builder, group) for group in arguments[4:6])
        rest = at, k, strides, has_bias, arguments[6]
        most, whole = tile_values(emitter.kind), builder.sdiv(n, emitter.number(LANES))
        fitting = [width for width in (4, 2, 1) if ROWS[0] * width <= most or width == 1]
        for width, column in emitter.strips(whole, fitting):
            _tiles(emitter, pointers, (m, width), column, rest)
        left = builder.srem(n, emitter.number(LANES))
        with builder.if_then(builder.icmp_signed(">", left, emitter.number(0))):
            _tiles(emitter, pointers, (m, 1), whole, rest, left)
        return context.get_dummy_value()

    return types.void(a, b, bias, c, sizes, places, slope), generate


def _tiles(
    emitter: TileEmitter, pointers: Any, sizes: Any, column: Any, rest: Any, left: Any = None
) -> None:
    """Generate the loop over the tiles of a strip of columns.

    `sizes` has the rows of the result and the vectors in the strip. If `left` is given, only this
    number of values of the last vector is stored.
    """
    (m, width), builder = sizes, emitter.builder
    first = builder.mul(column, emitter.number(LANES))
    most = tile_values(emitter.kind)
    for count, row in emitter.strips(m, [c for c in ROWS if c * width <= most]):
        _tile(emitter, pointers, (count, width), (row, first), rest, left)


def _tile(
    emitter: TileEmitter, pointers: Any, sizes: tuple[int, int], where: Any, rest: Any, left: Any
) -> None:
    """Generate the loop of one tile. See `_multiply_tiles`."""
    (a, b, bias, c), (rows, width), (row, column) = pointers, sizes, where
    (a_at, b_at, c_at), k, (a_row, a_column, b_row, c_row), has_bias, slope = rest
    builder, number = emitter.builder, emitter.number
    own = [builder.add(row, number(i)) for i in range(rows)]
    columns = [builder.add(column, number(LANES * j)) for j in range(width)]
    tile = emitter.tile([ir.Constant(emitter.kind, [0.0] * LANES)] * rows, width)
    with builder.if_then(builder.icmp_signed(">", has_bias, number(0))):
        for j, place in enumerate(columns):
            start = read(builder, bias, place)
            for line in tile:
                builder.store(start, line[j])
    with emitter.loops([k]) as (index,):
        here = emitter.place(b_at, (index, b_row))
        begins = (emitter.place(a_at, (i, a_row), (index, a_column)) for i in own)
        vectors = (read(builder, b, builder.add(here, place)) for place in columns)
        emitter.add_products(tile, (emitter.value(a, begin) for begin in begins), vectors)
    with builder.if_then(builder.fcmp_ordered("!=", slope, ir.Constant(slope.type, 1.0))):
        _apply_leaky(emitter, tile, slope)
    for i, line in zip(own, tile, strict=True):
        begin = emitter.place(c_at, (i, c_row))
        for place, vector in zip(columns, line, strict=True):
            at, found = builder.add(begin, place), builder.load(vector)
            if left is None:
                write(builder, c, at, found)
            else:
                write_some(builder, c, at, found, left)


def _apply_leaky(emitter: TileEmitter, tile: Sequence[Sequence[Any]], slope: Any) -> None:
    """Multiply the values of a tile by the slope where they are not above zero."""
    builder = emitter.builder
    times = spread(builder, slope)
    for line in tile:
        for vector in line:
            value = builder.load(vector)
            below = builder.fmul(value, times)
            builder.store(select_positive(builder, value, value, below), vector)


_multiply: Any = intrinsic(_multiply_tiles)


@inner_kernel
def multiply(
    a: Array,
    b: Array,
    bias: Array,
    c: Array,
    sizes: tuple[int, int, int],
    places: tuple[tuple[int, int, int], tuple[int, int, int, int]],
    slope: Any,
) -> int:
    """Compute c (m, n) = leaky(a (m, k) b (k, n) + bias (n,)), and return 0. It is called by its
    address, as it takes long to compile.

    All arrays are flat. An empty bias is none. The sizes are m, n and k. The places are where a, b
    and c begin, and the strides of the rows and the columns of a, the rows of b and the rows of c.
    The slope is of the dtype of the arrays; 1 leaves the sums as they are. Whole vectors are read,
    also of the last columns of b and of the bias.
    """
    _multiply(a, b, bias, c, sizes, places, slope)
    return 0


@kernel
def multiply_squares(a: Array, b: Array, c: Array, count: int) -> None:
    """Multiply squares as often as `count` by `count` of them, as blocks of the square matrices a
    and b, are multiplied for c = a b. They are the first values of the matrices."""
    n, one = a.shape[0] // count, a.dtype.type(1)
    sizes, places = (n, n, n), ((0, 0, 0), (n, 1, n, n))
    flat = a.reshape(-1), b.reshape(-1), c.reshape(-1)
    for _ in range(count**3):
        multiply(flat[0], flat[1], flat[1][:0], flat[2], sizes, places, one)


def _transpose_square(
    typing: Any, x: Any, at: Any, stride: Any, count: Any, y: Any, to: Any, lines: Any
) -> Any:
    """Write LANES rows of LANES values, `stride` apart in x, as the columns of rows that are
    `lines` apart in y. Only the first `count` rows are read; the last of them is repeated."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emitter = TileEmitter(context, builder, vector_of(x.dtype))
        kinds, (source, begin, by, rows, target, end, by_line) = signature.args, arguments
        number, last = emitter.number, builder.sub(rows, emitter.number(1))
        pointers = [
            first_of(context, builder, kind, array)
            for kind, array in ((kinds[0], source), (kinds[4], target))
        ]
        square = []
        for i in range(LANES):
            inside = builder.icmp_signed("<", number(i), last)
            row = builder.select(inside, number(i), last)
            square.append(read(builder, pointers[0], emitter.place(begin, (row, by))))
        half = LANES // 2
        while half:
            square = _exchanged(builder, square, half)
            half //= 2
        for i, vector in enumerate(square):
            write(builder, pointers[1], emitter.place(end, (number(i), by_line)), vector)
        return context.get_dummy_value()

    return types.void(x, types.intp, types.intp, types.intp, y, types.intp, types.intp), generate


def _exchanged(builder: Any, square: Sequence[Any], half: int) -> list[Any]:
    """Transpose the four quarters of each block of 2 `half` rows and columns of a square."""
    found, numbers = list(square), ir.VectorType(ir.IntType(32), LANES)
    lanes = range(LANES)
    upper = [k if not k & half else LANES + k - half for k in lanes]
    lower = [k + half if not k & half else LANES + k for k in lanes]
    for i in (row for row in lanes if not row & half):
        both = square[i], square[i + half]
        found[i] = builder.shuffle_vector(*both, ir.Constant(numbers, upper))
        found[i + half] = builder.shuffle_vector(*both, ir.Constant(numbers, lower))
    return found


_transpose: Any = intrinsic(_transpose_square)


@inner_kernel
def transpose(x: Array, at: int, shape: tuple[int, int], stride: int, y: Array, lines: int) -> None:
    """Compute the transpose of a matrix of a shape, whose rows are `stride` apart in x from `at`
    on, as rows that are `lines` apart in y. Both are filled up to whole vectors in y."""
    rows, columns = shape
    for i in range(0, rows, LANES):
        for j in range(0, columns, LANES):
            _transpose(x, at + i * stride + j, stride, rows - i, y, j * lines + i, lines)
