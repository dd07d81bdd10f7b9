"""The initial values of tensors, drawn by jax's initialisers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.nn import initializers as native

from dlsys_bench.engines.jax.compilation import PROGRAMS, compile_program
from dlsys_bench.spec import initializers
from dlsys_bench.spec.initializers import Distribution
from dlsys_bench.spec.layers import Shape
from dlsys_bench.spec.model import Model, Tensor

# Up to this number of values, compiling a draw with optimisations takes longer than they save.
FEW_VALUES = 1_000_000

# These initialisers derive the fans from the shape of a kernel.
SCALED: dict[type[initializers.Initializer], Callable[[Any], Any]] = {
    initializers.GlorotUniform: lambda record: native.glorot_uniform(),
    initializers.GlorotNormal: lambda record: (
        native.glorot_normal()
        if record.truncated
        else native.variance_scaling(1.0, "fan_avg", "normal")
    ),
    initializers.HeUniform: lambda record: native.he_uniform(),
    initializers.HeNormal: lambda record: (
        native.he_normal() if record.truncated else native.variance_scaling(2.0, "fan_in", "normal")
    ),
    initializers.FanInUniform: lambda record: native.variance_scaling(
        1.0 / 3.0, "fan_in", "uniform"
    ),
}

FAMILIES: dict[str, Callable[[Distribution, Array, Shape, str], Array]] = {
    "constant": lambda distribution, key, shape, dtype: jnp.full(shape, distribution.value, dtype),
    "uniform": lambda distribution, key, shape, dtype: jax.random.uniform(
        key, shape, dtype, distribution.low, distribution.high
    ),
    "normal": lambda distribution, key, shape, dtype: (
        distribution.stddev * jax.random.normal(key, shape, dtype)
    ),
    "truncated_normal": lambda distribution, key, shape, dtype: (
        distribution.stddev * jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)
    ),
}


def _start(tensor: Tensor, key: Array, dtype: str) -> Array:
    """Draw a tensor; one that is no kernel, whose fans jax cannot know, from the distribution."""
    scaled = SCALED.get(type(tensor.initializer)) if tensor.name.endswith(".kernel") else None
    if scaled is not None:
        return scaled(tensor.initializer)(key, tensor.shape, dtype)
    distribution = tensor.initializer.distribution(tensor.fans)
    return FAMILIES[distribution.family](distribution, key, tensor.shape, dtype)


@functools.lru_cache(PROGRAMS)
def _initializer(tensors: tuple[Tensor, ...], dtype: str) -> Callable[[Array], dict[str, Array]]:
    """Compile key -> the initial values of these tensors, by name.

    A single program for all of them, since jax compiles the draw of each shape otherwise.
    """

    def drawn(key: Array) -> dict[str, Array]:
        return {
            tensor.name: _start(tensor, jax.random.fold_in(key, index), dtype)
            for index, tensor in enumerate(tensors)
        }

    few = sum(tensor.size for tensor in tensors) <= FEW_VALUES
    compiled: Callable[[Array], dict[str, Array]] = compile_program(drawn, fast=few)
    return compiled


def initialize(model: Model, key: Array, dtype: str) -> dict[str, Array]:
    """Draw every tensor by the model's initialisers, each from a separate key."""
    return _initializer(model.tensors, dtype)(key)
