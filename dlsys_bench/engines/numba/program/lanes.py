"""Vectors of `LANES` values as a type of compiled code.

The compiler turns a plain loop into vector instructions only if it can prove that they are allowed
and expects them to pay, which takes most of the time of a compilation and fails on short loops.
Values of this type stay in vector registers. They have the arithmetic operators, with each other
and with numbers, and the functions below. Compiled code alone can call those.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

LANES = 16
"""The values of a vector: a vector register of the widest kind in single precision. Narrower
machines use several registers for one vector."""

CONTRACT = ("contract",)
"""A product and a sum may be rounded once, as one instruction."""


class Lanes(types.Type):
    """The type of a vector of values of a dtype."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, vector_of(kind.dtype))


def vector_of(dtype: Any) -> ir.VectorType:
    """Return the type of a vector in the compiler's language."""
    return ir.VectorType({32: ir.FloatType(), 64: ir.DoubleType()}[dtype.bitwidth], LANES)


def spread(builder: Any, value: Any) -> Any:
    """Return a vector with one value in all lanes."""
    vector = ir.VectorType(value.type, LANES)
    first = ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, first)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def first_of(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Return a pointer to the first value of an array."""
    return context.make_array(kind)(context, builder, array).data


def read(builder: Any, pointer: Any, at: Any) -> Any:
    """Return the vector that begins at an index. No alignment beyond that of a value is needed."""
    value = pointer.type.pointee
    place = builder.bitcast(builder.gep(pointer, [at]), ir.VectorType(value, LANES).as_pointer())
    return builder.load(place, align=bytes_of(value))


def write(builder: Any, pointer: Any, at: Any, vector: Any) -> None:
    """Write a vector, from an index on."""
    place = builder.bitcast(builder.gep(pointer, [at]), vector.type.as_pointer())
    builder.store(vector, place, align=bytes_of(vector.type.element))


def write_some(builder: Any, pointer: Any, at: Any, vector: Any, count: Any) -> None:
    """Write the first `count` values of a vector, from an index on."""
    memory = cgutils.alloca_once(builder, vector.type)
    builder.store(vector, memory)
    values = builder.bitcast(memory, vector.type.element.as_pointer())
    with cgutils.for_range(builder, count) as loop:
        value = builder.load(builder.gep(values, [loop.index]))
        builder.store(value, builder.gep(pointer, [builder.add(at, loop.index)]))


def select_positive(builder: Any, above: Any, positive: Any, other: Any) -> Any:
    """Return the lanes of `positive` where those of `above` are above zero, else of `other`."""
    zeros = ir.Constant(above.type, [0.0] * LANES)
    return builder.select(builder.fcmp_ordered(">", above, zeros), positive, other)


def add_up(builder: Any, vector: Any) -> Any:
    """Return the sum of the lanes, in an order that the machine prefers."""
    value = vector.type.element
    kind = ir.FunctionType(value, [value, vector.type])
    name = f"llvm.vector.reduce.fadd.v{LANES}f{8 * bytes_of(value)}"
    total = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(total, [ir.Constant(value, -0.0), vector], fastmath=("reassoc",))


def bytes_of(value: Any) -> int:
    """Return the bytes of a value of a type."""
    return 4 if isinstance(value, ir.FloatType) else 8


def _load(typing: Any, x: Any, at: Any) -> Any:
    """Return the vector of the values x[at : at + LANES]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return read(
            builder,
            first_of(context, builder, signature.args[0], arguments[0]),
            arguments[1],
        )

    return Lanes(x.dtype)(x, types.intp), generate


def _store(typing: Any, x: Any, at: Any, vector: Any) -> Any:
    """Set x[at : at + LANES] to a vector."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = first_of(context, builder, signature.args[0], arguments[0])
        write(builder, pointer, arguments[1], arguments[2])
        return context.get_dummy_value()

    return types.void(x, types.intp, vector), generate


def _store_some(typing: Any, x: Any, at: Any, vector: Any, count: Any) -> Any:
    """Set x[at : at + count] to the first values of a vector, or to all of them if there are not as
    many."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = first_of(context, builder, signature.args[0], arguments[0])
        whole = builder.icmp_signed(">=", arguments[3], context.get_constant(types.intp, LANES))
        with builder.if_else(whole, likely=True) as (then, otherwise):
            with then:
                write(builder, pointer, *arguments[1:3])
            with otherwise:
                write_some(builder, pointer, *arguments[1:])
        return context.get_dummy_value()

    return types.void(x, types.intp, vector, types.intp), generate


def _load_flags(typing: Any, flags: Any, at: Any, value: Any) -> Any:
    """Return the vector with a value where flags[at : at + LANES] are True and 0 elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = first_of(context, builder, signature.args[0], arguments[0])
        read_ = read_flags(builder, pointer, arguments[1])
        vector = spread(builder, arguments[2])
        return builder.select(read_, vector, ir.Constant(vector.type, [0.0] * LANES))

    return Lanes(value)(flags, types.intp, value), generate


def read_flags(builder: Any, pointer: Any, at: Any) -> Any:
    """Return the vector of the flags that begin at an index."""
    bytes_ = ir.VectorType(pointer.type.pointee, LANES)
    found = builder.load(builder.bitcast(builder.gep(pointer, [at]), bytes_.as_pointer()), align=1)
    return builder.icmp_unsigned("!=", found, ir.Constant(bytes_, [0] * LANES))


def _fill(typing: Any, value: Any) -> Any:
    """Return a vector with a value in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return spread(builder, arguments[0])

    return Lanes(value)(value), generate


def _total(typing: Any, vector: Any) -> Any:
    """Return the sum of the lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return add_up(builder, arguments[0])

    return vector.dtype(vector), generate


def _keep(typing: Any, vector: Any, count: Any) -> Any:
    """Return the first lanes of a vector, followed by zeros."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers = ir.VectorType(ir.IntType(32), LANES)
        places = ir.Constant(numbers, list(range(LANES)))
        ends = spread(builder, builder.trunc(arguments[1], ir.IntType(32)))
        zeros = ir.Constant(arguments[0].type, [0.0] * LANES)
        return builder.select(builder.icmp_signed("<", places, ends), arguments[0], zeros)

    return vector(vector, types.intp), generate


def _choose(typing: Any, above: Any, positive: Any, other: Any) -> Any:
    """Return the lanes of `positive` where those of `above` are above zero, else of `other`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return select_positive(builder, *arguments)

    return above(above, above, above), generate


def _like(typing: Any, vector: Any, value: Any) -> Any:
    """Return a vector of the dtype of another one with a value in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = arguments[0].type
        narrow = isinstance(kind.element, ir.FloatType)
        number = builder.fptrunc(arguments[1], kind.element) if narrow else arguments[1]
        return spread(builder, number)

    return vector(vector, types.float64), generate


def _lane(typing: Any, vector: Any) -> Any:
    """Return the first lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.extract_element(arguments[0], ir.Constant(ir.IntType(32), 0))

    return vector.dtype(vector), generate


load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
store_some: Any = intrinsic(_store_some)
load_flags: Any = intrinsic(_load_flags)
fill: Any = intrinsic(_fill)
total: Any = intrinsic(_total)
keep: Any = intrinsic(_keep)
choose: Any = intrinsic(_choose)
like: Any = intrinsic(_like)
lane: Any = intrinsic(_lane)

OPERATORS: dict[Callable[..., Any], str] = {
    operator.add: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}
"""The instruction of each operator."""


def _define(symbol: Callable[..., Any], instruction: str) -> None:
    """Let an operator take two vectors, or a vector and a number of its dtype."""

    def calculate(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            both = [
                value if isinstance(kind, Lanes) else spread(builder, value)
                for kind, value in zip(signature.args, arguments, strict=True)
            ]
            return getattr(builder, instruction)(*both, flags=CONTRACT)

        return (a if isinstance(a, Lanes) else b)(a, b), generate

    compiled: Any = intrinsic(calculate)

    def compile_operator(a: Any, b: Any) -> Any:
        if not isinstance(a, Lanes) and not isinstance(b, Lanes):
            return None
        if getattr(a, "dtype", a) != getattr(b, "dtype", b):
            return None

        def apply(a: Any, b: Any) -> Any:
            return compiled(a, b)

        return apply

    overload(symbol)(compile_operator)


for _symbol, _instruction in OPERATORS.items():
    _define(_symbol, _instruction)
