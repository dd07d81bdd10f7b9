"""The inner loops of convolutions, whose results stay in vector registers until they are complete.

A tile is a block of results: some filters at some neighbouring places, or some filters at some
neighbouring weights. Each product of a value that was read is used for all results of its row of
the tile, so the products, and not the memory, limit the speed. The compiler keeps a tile in
registers only if its size is a constant; so one loop is generated for each size.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.codegen import get_host_cpu_features
from numba.extending import intrinsic

from dlsys_bench.engines.numba.program.lanes import (
    CONTRACT,
    LANES,
    add_up,
    first_of,
    read,
    spread,
    vector_of,
    write,
)

FILTERS = (8, 6, 4, 2, 1)
"""The numbers of filters of a tile."""

ACROSS = 6
"""The most neighbouring places of a tile."""

WINDOW = (5, 3, 1)
"""The numbers of neighbouring weights of a tile."""


def tile_values(kind: Any) -> int:
    """Return the most vectors of a tile: what fits in the registers beside the factors."""
    wide = "+avx512f" in get_host_cpu_features()
    registers, bytes_ = (24, 64) if wide else (12, 32)
    needed = LANES * (4 if isinstance(kind.element, ir.FloatType) else 8) // bytes_
    return max(registers // needed, 1)


class TileEmitter:
    """The operations on whole numbers and on tiles from which the loops are generated."""

    def __init__(self, context: Any, builder: Any, kind: Any) -> None:
        self.context, self.builder, self.kind = context, builder, kind

    def number(self, value: int) -> Any:
        """Return a constant."""
        return self.context.get_constant(types.intp, value)

    def place(self, start: Any, *terms: tuple[Any, Any]) -> Any:
        """Return the start plus the product of each term."""
        for a, b in terms:
            start = self.builder.add(start, self.builder.mul(a, b))
        return start

    @contextlib.contextmanager
    def loops(self, counts: Sequence[Any]) -> Iterator[list[Any]]:
        """Generate nested loops around the body, which is given their indices."""
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(cgutils.for_range(self.builder, count)).index
                for count in counts
            ]

    def strips(self, total: Any, sizes: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Generate a loop for each size, from the largest on, that divides what remains of a total.
        Yields the size and where a strip begins, once for each loop."""
        start, builder = self.number(0), self.builder
        for size in sizes:
            width = self.number(size)
            count = builder.sdiv(builder.sub(total, start), width)
            with cgutils.for_range(builder, count) as loop:
                yield size, self.place(start, (loop.index, width))
            start = self.place(start, (count, width))

    def tile(self, starts: Sequence[Any], count: int) -> list[list[Any]]:
        """Return a tile with a row for each start, which fills it."""
        rows = []
        for start in starts:
            row = [cgutils.alloca_once(self.builder, self.kind) for _ in range(count)]
            for vector in row:
                self.builder.store(start, vector)
            rows.append(row)
        return rows

    def add_products(
        self, tile: Sequence[Sequence[Any]], a: Iterable[Any], b: Iterable[Any]
    ) -> None:
        """Add to a tile the products of the factors of its rows and of its columns. The fewer ones
        are read first, and of the others one at a time, as all registers may be in use."""
        if len(tile) <= len(tile[0]):
            rows = list(zip(tile, a, strict=True))
            for column, other in enumerate(b):
                for row, one in rows:
                    self._add_product(row[column], one, other)
        else:
            columns = list(b)
            for row, one in zip(tile, a, strict=True):
                for vector, other in zip(row, columns, strict=True):
                    self._add_product(vector, one, other)

    def _add_product(self, vector: Any, one: Any, other: Any) -> None:
        builder = self.builder
        product = builder.fmul(one, other, flags=CONTRACT)
        builder.store(builder.fadd(builder.load(vector), product, flags=CONTRACT), vector)

    def value(self, pointer: Any, at: Any) -> Any:
        """Read one value, and return it in all lanes."""
        return spread(self.builder, self.builder.load(self.builder.gep(pointer, [at])))


def _convolve_row(
    typing: Any, x: Any, w: Any, bias: Any, y: Any, at: Any, shape: Any, strides: Any
) -> Any:
    """Compute vectors of y for some filters and neighbouring places: the bias of the filter plus
    the sum of w x over three indices.

    All arrays are flat. `at` is where x, w and y begin. The shape is (filters, places) and the
    counts of the three indices. The strides are those of x by the three indices, of w by these and
    the filters, and of y by the filters; and those of x and y by the places, unless neighbouring
    places are LANES values away.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emitter = TileEmitter(context, builder, vector_of(x.dtype))
        pointers = [
            first_of(context, builder, kind, array)
            for kind, array in zip(signature.args[:4], arguments[:4], strict=True)
        ]
        places, (sizes, counts), by = (unpacked(builder, group) for group in arguments[4:])
        _convolve_tiles(emitter, pointers, sizes, (places, counts, *by))
        return context.get_dummy_value()

    return types.void(x, w, bias, y, at, shape, strides), generate


def unpacked(builder: Any, value: Any) -> Any:
    """Return the values of a tuple, which may contain tuples."""
    if not isinstance(value.type, ir.ArrayType | ir.LiteralStructType):
        return value
    return [unpacked(builder, part) for part in cgutils.unpack_tuple(builder, value)]


def _convolve_tiles(emitter: TileEmitter, pointers: Any, sizes: Any, rest: Any) -> None:
    """Generate the loops over tiles of nearly equal width. See `_convolve_row`."""
    (filters, wide), builder = sizes, emitter.builder
    most = tile_values(emitter.kind)
    across = max(1, min(ACROSS, most // 4))
    tiles = builder.sdiv(builder.add(wide, emitter.number(across - 1)), emitter.number(across))
    begin = cgutils.alloca_once_value(builder, emitter.number(0))
    with cgutils.for_range(builder, tiles) as loop:
        left, start = builder.sub(tiles, loop.index), builder.load(begin)
        remains = builder.add(builder.sub(wide, start), builder.sub(left, emitter.number(1)))
        width = builder.sdiv(remains, left)
        for count in range(1, across + 1):
            with builder.if_then(builder.icmp_signed("==", width, emitter.number(count))):
                fitting = [f for f in FILTERS if f * count <= most or f == 1]
                for size, first in emitter.strips(filters, fitting):
                    _convolve_tile(emitter, pointers, (size, count), (first, start), rest)
        builder.store(builder.add(start, width), begin)


def _convolve_tile(
    emitter: TileEmitter, pointers: Any, sizes: tuple[int, int], where: Any, rest: Any
) -> None:
    """Generate the loops of one tile. See `_convolve_row`."""
    (x, w, bias, y), (filters, across), (first, start) = pointers, sizes, where
    (x_at, w_at, y_at), counts, x_strides, (*w_strides, by_filter), y_stride, *by_place = rest
    builder, number = emitter.builder, emitter.number
    x_place, y_place = by_place[0] if by_place else [number(LANES)] * 2
    own = [builder.add(first, number(f)) for f in range(filters)]
    tile = emitter.tile([emitter.value(bias, f) for f in own], across)
    with emitter.loops(counts) as indices:
        begin = emitter.place(x_at, (start, x_place), *zip(indices, x_strides, strict=True))
        here = emitter.place(w_at, *zip(indices, w_strides, strict=True))
        weights = (emitter.value(w, emitter.place(here, (f, by_filter))) for f in own)
        across_x = [emitter.place(begin, (number(j), x_place)) for j in range(across)]
        values = (read(builder, x, at) for at in across_x)
        emitter.add_products(tile, weights, values)
    for f, row in zip(own, tile, strict=True):
        line = emitter.place(y_at, (f, y_stride), (start, y_place))
        for j, vector in enumerate(row):
            write(builder, y, emitter.place(line, (number(j), y_place)), builder.load(vector))


def _add_weights(typing: Any, x: Any, dy: Any, dw: Any, at: Any, shape: Any, strides: Any) -> Any:
    """Compute dw for some filters and neighbouring weights: the sum of dy x over the rows and
    columns of dy, and the lanes.

    All arrays are flat. `at` is where x, dy and dw begin. The shape is (filters, weights) and
    (rows, columns). The strides are those of the rows of x, the rows of dy and the filters of dy;
    and those of dw by the weights and the filters; and those of x by the columns and the weights
    and of dy by the columns, unless all are LANES. With these, (rows, columns, vectors) are the
    shape, and neighbouring vectors LANES values away.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emitter = TileEmitter(context, builder, vector_of(x.dtype))
        pointers = [
            first_of(context, builder, kind, array)
            for kind, array in zip(signature.args[:3], arguments[:3], strict=True)
        ]
        places, (sizes, counts), by = (unpacked(builder, group) for group in arguments[3:])
        (filters, window), most = sizes, tile_values(emitter.kind)
        for weights, left in emitter.strips(window, WINDOW):
            fitting = [f for f in FILTERS[2:] if f * weights <= most or f == 1]
            for size, first in emitter.strips(filters, fitting):
                where, rest = (first, left), (places, counts, *by)
                _weights_tile(emitter, pointers, (size, weights), where, rest)
        return context.get_dummy_value()

    return types.void(x, dy, dw, at, shape, strides), generate


def _weights_tile(
    emitter: TileEmitter, pointers: Any, sizes: tuple[int, int], where: Any, rest: Any
) -> None:
    """Generate the loops of one tile. See `_add_weights`."""
    (x, dy, dw), (filters, window), (first, left) = pointers, sizes, where
    places, counts, (x_row, dy_row, dy_filter), (by_weight, by_filter), *by_place = rest
    (x_at, dy_at, dw_at), builder, number = places, emitter.builder, emitter.number
    x_column, x_weight, dy_column = by_place[0] if by_place else [number(LANES)] * 3
    own = [builder.add(first, number(f)) for f in range(filters)]
    zeros = ir.Constant(emitter.kind, [0.0] * LANES)
    tile = emitter.tile([zeros] * filters, window)
    with emitter.loops(counts) as (row, column, *vector_):
        ahead = [(one, number(LANES)) for one in vector_]
        begin = emitter.place(x_at, (left, x_weight), (row, x_row), (column, x_column), *ahead)
        here = emitter.place(dy_at, (row, dy_row), (column, dy_column), *ahead)
        back = (read(builder, dy, emitter.place(here, (f, dy_filter))) for f in own)
        beside = [emitter.place(begin, (number(b), x_weight)) for b in range(window)]
        values = (read(builder, x, at) for at in beside)
        emitter.add_products(tile, back, values)
    for f, sums in zip(own, tile, strict=True):
        for b, vector in enumerate(sums):
            place = emitter.place(dw_at, (f, by_filter), (builder.add(left, number(b)), by_weight))
            found = add_up(builder, builder.load(vector))
            builder.store(found, builder.gep(dw, [place]))


convolve_row: Any = intrinsic(_convolve_row)
add_weights: Any = intrinsic(_add_weights)
