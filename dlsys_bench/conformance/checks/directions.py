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
from dlsys_bench.data import split_inputs
from dlsys_bench.engines.base import Gradients
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.model import Model

DIRECTIONS = 2
"""The number of random directions. One alone misses an error that is nearly orthogonal to it."""

LEAST_SHARE = 0.01
"""The share of the largest norm of a gradient to which a smaller norm is raised as a scale. A bias
below a batch norm has a gradient of rounding errors, which must not be compared with itself."""


@dataclass(frozen=True)
class _Gradient:
    """The gradient of an engine with respect to one tensor, or to an input, and its scale.

    The key is the name of the tensor, or the place of the input, as in `Oracle.slope`.
    """

    name: str
    key: str | int
    values: Array
    scale: float

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the axes."""
        return (TENSOR_AXES if self.name == self.key else BATCH_AXES)[self.values.ndim]

    @property
    def title(self) -> str:
        """The name of the gradient in a finding."""
        return f"d {self.name}"

    def where(self) -> dict[str, str | None]:
        """Return the layer and the tensor of a finding."""
        if self.name != self.key:
            return {}
        return {"layer": self.name.partition(".")[0], "tensor": self.name}


def compare_slopes(trial: Trial, example: Example) -> None:
    """Compare the loss, and its derivatives along directions in all tensors and in x at once.

    Each tensor has a share of a direction that is inversely proportional to the norm of its
    gradient, so all count alike. If a derivative is wrong, the finding names the tensor nearest to
    the output whose gradient is wrong, and the block.
    """
    network = trial.engine.build(example.model, example.weights)
    reference = trial.oracle.build(example.model, example.weights)
    found = trial.engine.gradients(network, example.batch, example.loss)
    parts = list(_parts(example.model, found))
    generator = np.random.default_rng((trial.seed, 4))
    allowed = trial.tolerance * np.sqrt(len(parts))
    for _ in range(DIRECTIONS):
        signs = {p.key: generator.choice((-1.0, 1.0), p.values.shape) for p in parts}
        along = {p.key: signs[p.key] / p.scale for p in parts}
        expected = trial.oracle.slope(reference, example.batch, example.loss, along)
        tolerance = trial.tolerance * max(1.0, abs(expected.loss))
        close("the loss", found.loss, expected.loss, tolerance)
        actual = sum(float((along[p.key] * p.values).sum()) for p in parts)
        if abs(actual - expected.derivative) > allowed:
            for part in parts:
                _compare_part(trial, example, reference, part, signs[part.key])
            what = "the derivative of the loss along a direction in every tensor"
            close(what, actual, expected.derivative, allowed)


def _parts(model: Model, found: Gradients) -> Iterator[_Gradient]:
    """Yield the gradients from the output down, with their scales."""
    dx = {} if found.x is None else split_inputs(found.x)
    places = {each.name: place for place, each in enumerate(model.input_table)}
    keys: dict[str, str | int] = {name: places.get(name, 0) for name in dx}
    gradients = {**dx, **found.weights}
    norms = {name: float(np.linalg.norm(values)) for name, values in gradients.items()}
    least = max(LEAST_SHARE * max(norms.values()), 1e-12)
    parts = [
        _Gradient(name, keys.get(name, name), values.astype(np.float64), max(norms[name], least))
        for name, values in gradients.items()
    ]
    for part in parts:
        tensor = part.where().get("tensor")
        finite_in_blocks(part.title, part.values, part.axes, tensor=tensor)
    yield from reversed(parts)


def _compare_part(
    trial: Trial, example: Example, reference: OracleNetwork, part: _Gradient, signs: Array
) -> None:
    """Raise BrokenError with the block of a gradient that is wrong, if it is wrong."""

    def slopes(*block: slice) -> tuple[float, float]:
        """Return the actual and the expected derivative along the signs in a block."""
        direction = np.zeros_like(signs)
        direction[block] = signs[block] / part.scale
        along = {part.key: direction}
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
