"""Gradients that are compared along random directions, and the block in which they are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from dlsys_bench.conformance.blocks import (
    BATCH_AXES,
    TENSOR_AXES,
    describe_block,
    failing_range,
    finite_in_blocks,
)
from dlsys_bench.conformance.finding import Fault, broken, close
from dlsys_bench.conformance.oracle.engine import OracleNetwork
from dlsys_bench.conformance.strategies import Example
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.plan import Array

DIRECTIONS = 2
"""The number of random directions. One alone misses an error that is nearly orthogonal to it."""

LEAST_SHARE = 0.01
"""The share of the largest norm of a gradient to which a smaller norm is raised as a scale. A bias
below a batch norm has a gradient of rounding errors, which must not be compared with itself."""


@dataclass(frozen=True)
class _Gradient:
    """The gradient of an engine with respect to one tensor, or to x (None), and its scale."""

    name: str | None
    values: Array
    scale: float

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the axes."""
        return (BATCH_AXES if self.name is None else TENSOR_AXES)[self.values.ndim]

    @property
    def title(self) -> str:
        """The name of the gradient in a finding."""
        return f"d {self.name or 'x'}"

    def where(self) -> dict[str, str | None]:
        """Return the layer and the tensor of a finding."""
        return {"layer": self.name and self.name.partition(".")[0], "tensor": self.name}


def compare_slopes(trial: Trial, example: Example) -> None:
    """Compare the loss, and its derivatives along directions in all tensors and in x at once.

    Each tensor has a share of a direction that is inversely proportional to the norm of its
    gradient, so all count alike. If a derivative is wrong, the finding names the tensor nearest to
    the output whose gradient is wrong, and the block.
    """
    network = trial.engine.build(example.model, example.weights)
    reference = trial.oracle.build(example.model, example.weights)
    found = trial.engine.gradients(network, example.batch, example.loss)
    gradients: dict[str | None, Array] = {} if found.x is None else {None: found.x}
    gradients.update(found.weights)
    parts = list(_parts(gradients))
    generator = np.random.default_rng((trial.seed, 4))
    allowed = trial.tolerance * np.sqrt(len(parts))
    for _ in range(DIRECTIONS):
        signs = {p.name: generator.choice((-1.0, 1.0), p.values.shape) for p in parts}
        along = {p.name: signs[p.name] / p.scale for p in parts}
        expected = trial.oracle.slope(reference, example.batch, example.loss, along)
        tolerance = trial.tolerance * max(1.0, abs(expected.loss))
        close("the loss", found.loss, expected.loss, tolerance)
        actual = sum(float((along[p.name] * p.values).sum()) for p in parts)
        if abs(actual - expected.derivative) > allowed:
            for part in parts:
                _compare_part(trial, example, reference, part, signs[part.name])
            what = "the derivative of the loss along a direction in every tensor"
            close(what, actual, expected.derivative, allowed)


def _parts(gradients: dict[str | None, Array]) -> Iterator[_Gradient]:
    """Yield the gradients from the output down, with their scales."""
    for name, values in gradients.items():
        axes = (BATCH_AXES if name is None else TENSOR_AXES)[values.ndim]
        finite_in_blocks(f"d {name or 'x'}", values, axes, tensor=name)
    norms = {name: float(np.linalg.norm(values)) for name, values in gradients.items()}
    least = max(LEAST_SHARE * max(norms.values()), 1e-12)
    for name in reversed(gradients):
        yield _Gradient(name, gradients[name].astype(np.float64), max(norms[name], least))


def _compare_part(
    trial: Trial, example: Example, reference: OracleNetwork, part: _Gradient, signs: Array
) -> None:
    """Raise BrokenError with the block of a gradient that is wrong, if it is wrong."""

    def slopes(*block: slice) -> tuple[float, float]:
        """Return the actual and the expected derivative along the signs in a block."""
        direction = np.zeros_like(signs)
        direction[block] = signs[block] / part.scale
        along = {part.name: direction}
        expected = trial.oracle.slope(reference, example.batch, example.loss, along)
        return float((direction * part.values).sum()), expected.derivative

    def wrong(*block: slice) -> bool:
        actual, expected = slopes(*block)
        return abs(actual - expected) > trial.tolerance

    if not wrong():
        return
    everything = (slice(None),) * signs.ndim

    def wrong_along(axis: int, part: slice) -> bool:
        return wrong(*everything[:axis], part)

    bounds = [
        failing_range(size, partial(wrong_along, axis)) for axis, size in enumerate(signs.shape)
    ]
    block = tuple(slice(first, last + 1) for first, last in bounds)
    text = describe_block(signs.shape, bounds, part.axes)
    actual, expected = (slope * part.scale for slope in slopes(*block))
    what = f"{text} of {part.title}" if text else part.title
    what += ": the gradient is zero" if not part.values[block].any() else ""
    raise broken(
        Fault.WRONG_VALUE,
        f"{what}, along a random direction",
        actual=f"{actual:.8g}",
        expected=f"{expected:.8g}",
        difference=abs(actual - expected),
        allowed=trial.tolerance * part.scale,
        **part.where(),
    )
