"""The activations on vectors of `lanes`, and their derivatives by their outputs."""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir
from numba.extending import intrinsic

from dlsys_bench.engines.numba.kernel import inner_kernel
from dlsys_bench.engines.numba.program.lanes import CONTRACT, LANES, bytes_of, choose, like

LEAKY, TANH, SIGMOID = range(3)
"""The activations of a program. relu and linear are leaky_relu with another slope."""

LOG2_E = 1.4426950408889634
LOG_2_HIGH, LOG_2_LOW = 0.693145751953125, 1.42860682030941723212e-6
"""log(2) as a number of few bits, whose products with small integers are exact, and the rest.
Cody & Waite 1980."""


def _power(typing: Any, shifted: Any) -> Any:
    """Return 2^n of n + 1.5 2^m, where m is the number of bits of a fraction: n is an integer, and
    the last bits of that sum are its own."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = arguments[0].type
        bits, bias = (23, 127) if isinstance(kind.element, ir.FloatType) else (52, 1023)
        whole = ir.VectorType(ir.IntType(8 * bytes_of(kind.element)), LANES)
        moved = builder.shl(
            builder.bitcast(arguments[0], whole), ir.Constant(whole, [bits] * LANES)
        )
        one = ir.Constant(whole, [bias << bits] * LANES)
        return builder.bitcast(builder.add(moved, one), kind)

    return shifted(shifted), generate


def _rounding(typing: Any, vector: Any) -> Any:
    """Return the number 1.5 2^m, where m is the number of bits of a fraction: a sum with it is
    rounded to an integer, see `_power`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = arguments[0].type
        bits = 23 if isinstance(kind.element, ir.FloatType) else 52
        return ir.Constant(kind, [1.5 * 2.0**bits] * LANES)

    return vector(vector), generate


def _exponential_series(typing: Any, r: Any) -> Any:
    """Return exp(r) - 1 for |r| <= log(2) / 2, by its Taylor series. What it omits is smaller than
    the rounding."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (vector,) = arguments
        degree = 7 if isinstance(vector.type.element, ir.FloatType) else 13

        def coefficient(power: int) -> Any:
            return ir.Constant(vector.type, [1.0 / math.factorial(power)] * LANES)

        found = coefficient(degree)
        for power in range(degree - 1, 0, -1):
            product = builder.fmul(found, vector, flags=CONTRACT)
            found = builder.fadd(product, coefficient(power), flags=CONTRACT)
        return builder.fmul(found, vector, flags=CONTRACT)

    return r(r), generate


power_of_two: Any = intrinsic(_power)
rounding: Any = intrinsic(_rounding)
exponential_series: Any = intrinsic(_exponential_series)


@inner_kernel
def _exponential(x: Any, most: float) -> tuple[Any, Any]:
    """Return p and s with exp(x) = p + s p, for x whose absolute value is cut off at `most`.

    p is a power of two. s is small if x is, and known to all its digits.
    """
    high, low = like(x, most), like(x, -most)
    x = choose(x - high, high, x)
    x = choose(low - x, low, x)
    magic = rounding(x)
    shifted = x * like(x, LOG2_E) + magic
    n = shifted - magic
    rest = x - n * like(x, LOG_2_HIGH) - n * like(x, LOG_2_LOW)
    return power_of_two(shifted), exponential_series(rest)


@inner_kernel
def exp(x: Any) -> Any:
    """Compute the exponential. Beyond -80 and 80 it has the value that it has there."""
    power, series = _exponential(x, 80.0)
    return power + power * series


@inner_kernel
def expm1(x: Any) -> Any:
    """Compute the exponential less one, with the limits of `exp`."""
    power, series = _exponential(x, 80.0)
    return power * series + (power - like(x, 1.0))


@inner_kernel
def tanh(x: Any) -> Any:
    """Compute the hyperbolic tangent, m / (m + 2) with m = exp(2 x) - 1."""
    power, series = _exponential(x + x, 40.0)
    one = like(x, 1.0)
    m = power * series + (power - one)
    return m / (m + (one + one))


@inner_kernel
def sigmoid(x: Any) -> Any:
    """Compute 1 / (1 + exp(-x))."""
    power, series = _exponential(like(x, 0.0) - x, 80.0)
    one = like(x, 1.0)
    return one / (one + (power + power * series))


@inner_kernel
def activate(function: int, x: Any, slope: Any) -> Any:
    """Compute the function of a vector. The slope is that of a leaky_relu below zero."""
    if function == TANH:
        return tanh(x)
    if function == SIGMOID:
        return sigmoid(x)
    return choose(x, x, x * slope)


@inner_kernel
def d_activate(function: int, y: Any, dy: Any, slope: Any) -> Any:
    """Compute dx of a vector from the output of the function and dy."""
    one = like(y, 1.0)
    if function == TANH:
        return dy * (one - y * y)
    if function == SIGMOID:
        return dy * (y * (one - y))
    return choose(y, dy, dy * slope)
