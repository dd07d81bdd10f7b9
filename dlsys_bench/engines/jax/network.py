"""A network: its arrays by name, and the pure functions that jax compiles."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jax import Array

from dlsys_bench.engines.inputs import float_places
from dlsys_bench.engines.jax.compilation import PROGRAMS, compile_program
from dlsys_bench.engines.jax.layers import Call, JaxTensors, apply
from dlsys_bench.engines.jax.losses import loss_value
from dlsys_bench.engines.jax.placement import JaxInputs
from dlsys_bench.spec.initializers import Initializer, Zeros
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model

JaxMasks = Mapping[int, Array]


@dataclasses.dataclass
class JaxNetwork:
    """A network. `parameters` have gradients, and `state` is moved by training. Masks that are not
    given are drawn from `key`; `draws` counts how often."""

    model: Model
    parameters: JaxTensors
    state: JaxTensors
    key: Array
    draws: int = 0

    @property
    def tensors(self) -> JaxTensors:
        """All tensors, in the order of the model."""
        own = self.parameters | self.state
        return {tensor.name: own[tensor.name] for tensor in self.model.tensors}

    def next_key(self) -> Array:
        """Return a new key for each pass."""
        self.draws += 1
        return jax.random.fold_in(self.key, self.draws)


def bare_model(model: Model) -> Model:
    """Return the model without its name and initialisers, on which no program depends."""
    bare: Model = model.map(lambda record: Zeros() if isinstance(record, Initializer) else record)
    return dataclasses.replace(bare, name="")


def draw(model: Model, key: Array, batch: int) -> dict[int, Array]:
    """Draw the keep mask of each dropout layer for a batch from a key, by the layer's index."""
    return {
        row.place: jax.random.bernoulli(
            jax.random.fold_in(key, row.place),
            np.float32(1.0 - mask.drop_rate),
            (batch, *mask.shape),
        )
        for row in model.table
        if (mask := row.mask) is not None and mask.drop_rate > 0
    }


@functools.lru_cache(PROGRAMS)
def drawer(model: Model, batch: int) -> Callable[[Array], dict[int, Array]]:
    """Compile key -> what `draw` returns."""
    compiled: Callable[[Array], dict[int, Array]] = compile_program(
        lambda key: draw(model, key, batch)
    )
    return compiled


def forward(
    model: Model, tensors: JaxTensors, x: JaxInputs, masks: JaxMasks, training: bool
) -> tuple[list[Array], JaxTensors]:
    """Compute the output of every layer, and the state after the batch."""
    values = [*x]
    moved: JaxTensors = {}
    for row in model.table:
        prefix = row.name + "."
        own = {
            full.removeprefix(prefix): tensor
            for full, tensor in tensors.items()
            if full.startswith(prefix)
        }
        inputs = [values[source] for source in row.sources]
        taken = inputs if row.layer.merges else inputs[0]
        kept = masks.get(row.place) if training else None
        y, state = apply(row.layer, Call(taken, row.shape, own, training, kept))
        moved |= {prefix + part: value for part, value in state.items()}
        values.append(y)
    return values[len(x) :], moved


def loss_of(
    model: Model,
    loss: Loss,
    parameters: JaxTensors,
    state: JaxTensors,
    x: JaxInputs,
    y: Array,
    masks: JaxMasks,
    training: bool,
) -> tuple[Array, tuple[Array, JaxTensors]]:
    """Compute the loss of a batch, and with it the outputs and the state after the batch."""
    outputs, moved = forward(model, parameters | state, x, masks, training)
    return loss_value(loss, outputs[-1], y), (outputs[-1], state | moved)


@functools.lru_cache(PROGRAMS)
def predictor(model: Model, fast: bool) -> Callable[[JaxTensors, JaxInputs], Array]:
    """Compile (tensors, x) -> outputs, outside training."""
    compiled: Callable[[JaxTensors, JaxInputs], Array] = compile_program(
        lambda tensors, x: forward(model, tensors, x, {}, False)[0][-1], fast=fast
    )
    return compiled


@functools.lru_cache(PROGRAMS)
def tracer(
    model: Model, training: bool
) -> Callable[[JaxTensors, JaxInputs, JaxMasks], list[Array]]:
    """Compile (tensors, x, masks) -> the output of every layer."""
    compiled: Callable[[JaxTensors, JaxInputs, JaxMasks], list[Array]] = compile_program(
        lambda tensors, x, masks: forward(model, tensors, x, masks, training)[0]
    )
    return compiled


@functools.lru_cache(PROGRAMS)
def differentiator(
    model: Model, loss: Loss, training: bool
) -> Callable[..., tuple[Array, tuple[JaxTensors, list[Array]]]]:
    """Compile (parameters, x, state, y, masks) -> the loss, and its gradients in the parameters and
    in each input of floats."""
    floats = float_places(model)

    def differentiated(
        parameters: JaxTensors, x: JaxInputs, state: JaxTensors, y: Array, masks: JaxMasks
    ) -> tuple[Array, tuple[JaxTensors, list[Array]]]:
        def value(parameters: JaxTensors, moved: list[Array]) -> Array:
            own = dict(zip(floats, moved, strict=True))
            every = tuple(own.get(place, each) for place, each in enumerate(x))
            return loss_of(model, loss, parameters, state, every, y, masks, training)[0]

        moved = [x[place] for place in floats]
        value_and_gradients = jax.value_and_grad(value, argnums=(0, 1))
        found: tuple[Array, tuple[JaxTensors, list[Array]]] = value_and_gradients(parameters, moved)
        return found

    compiled: Callable[..., tuple[Array, tuple[JaxTensors, list[Array]]]] = compile_program(
        differentiated
    )
    return compiled
