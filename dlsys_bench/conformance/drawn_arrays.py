"""Random arrays for a model: its inputs, targets of a loss, and weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import join_inputs
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.spec.graph import INPUT
from dlsys_bench.spec.layers import Shape
from dlsys_bench.spec.losses import CrossEntropy, Loss
from dlsys_bench.spec.model import Model


def _normal(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return generator.standard_normal(shape)


def inputs(
    model: Model,
    samples: int,
    generator: np.random.Generator,
    values: Callable[[np.random.Generator, tuple[int, ...]], Array] = _normal,
) -> NDArray[Any]:
    """Return random inputs of a model: token ids, or floats by the function `values` of a generator
    and a shape, standard normal ones by default."""
    arrays = {
        each.name: values(generator, (samples, *each.shape))
        if each.dtype == "float"
        else generator.integers(0, model.vocabularies[each.name], (samples, *each.shape))
        for each in model.input_table
    }
    return join_inputs(arrays) if model.inputs else arrays[INPUT]


def targets(
    loss: Loss, outputs: int | Shape, samples: int, generator: np.random.Generator
) -> NDArray[Any]:
    """Return random targets of the form that the loss takes for outputs of this width or shape.

    If the loss ignores a label, a third of the labels is ignored.
    """
    shape = (samples, outputs) if isinstance(outputs, int) else (samples, *outputs)
    if isinstance(loss, CrossEntropy):
        labels = generator.integers(0, shape[-1], shape[:-1])
        if loss.ignored_label is not None:
            labels[generator.random(labels.shape) < 1 / 3] = loss.ignored_label
        return labels
    if loss.targets == "signs":
        return generator.choice(np.array([-1, 1]), samples)
    if loss.targets == "binary":
        return generator.integers(0, 2, shape)
    return generator.standard_normal(shape)


def nonzero_weights(model: Model, seed: int) -> Weights:
    """Return weights none of which has a special value.

    A bias of zero or a gamma of one would hide a term that is missing, so tensors that start as a
    constant are drawn around it: around zero from N(0, 0.3), around one from U(0.5, 1.5).
    """
    generator = np.random.default_rng((seed, 1))
    weights = Plan(seed).weights(model)
    for tensor in model.tensors:
        start = tensor.initializer.distribution(tensor.fans)
        if start.family == "constant" and start.value == 0:
            weights[tensor.name] = generator.normal(0.0, 0.3, tensor.shape)
        elif start.family == "constant":
            weights[tensor.name] = start.value * generator.uniform(0.5, 1.5, tensor.shape)
    return weights
