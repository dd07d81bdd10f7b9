"""The activations on vectors of `lanes`, and their derivatives by their outputs."""

from __future__ import annotations

from typing import Any

from dlsys_bench.engines.numba.kernel import inner_kernel
from dlsys_bench.engines.numba.program.lanes import (
    choose,
    exponential_series,
    like,
    power_of_two,
    rounding,
)

LEAKY, TANH, SIGMOID = range(3)
"""The activations of a program. relu and linear are leaky_relu with another slope."""

LOG2_E = 1.4426950408889634
LOG_2_HIGH, LOG_2_LOW = 0.693145751953125, 1.42860682030941723212e-6
"""log(2) as a number of few bits, whose products with small integers are exact, and the rest.
Cody & Waite 1980."""


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
