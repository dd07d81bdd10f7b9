"""The networks of the trajectories: families that people train, small enough for the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.checks.support import (
    example_loss,
    has,
    needed_layers,
    supported,
    trainable,
)
from dlsys_bench.conformance.checks.training import VARIANTS, allowing_conventions
from dlsys_bench.conformance.oracle.optimizers import OracleState, updated
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.plan import Array, Weights
from dlsys_bench.engines.requirements import optimizer_requirements
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.graph import Node, parallel, residual, serial
from dlsys_bench.spec.inputs import Input
from dlsys_bench.spec.layers import (
    Activation,
    Add,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePool,
    Layer,
    LayerNorm,
    MaxPool,
    MultiHeadAttention,
    SpatialDropout,
)
from dlsys_bench.spec.losses import CategoricalCrossEntropy
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam, Optimizer, RMSprop
from dlsys_bench.spec.recipe import Recipe

SAMPLES, BATCH, CLASSES = 14, 4, 3

SMOOTH = 1e-3
"""The epsilon of an optimiser that divides by the root of squares. With a much smaller one, the
update of an entry whose gradient is nearly zero would be one of rounding errors. Below a batch
norm, that is a bias whose unit is active and kept in every sample."""


class TrajectoryNetwork(NamedTuple):
    """A model and the optimiser that trains it, with a cross-entropy, on random samples."""

    model: Model
    optimizer: Optimizer

    @property
    def requires(self) -> list[str]:
        """The layers that nothing can replace."""
        return needed_layers(self.model)


TANH, RELU = Activation("tanh"), Activation("relu")


def _lenet5_tanh() -> tuple[Layer, ...]:
    first = (BatchNorm(), Dropout(0.2), Conv2D(2, (3, 3), padding="same"), TANH)
    second = (BatchNorm(), AveragePool(), Conv2D(3, (3, 3)), TANH)
    third = (Dropout(0.5), BatchNorm(), AveragePool((2, 2), (1, 1)))
    return *first, *second, *third, Flatten(), Dense(4), TANH, Dense(3)


def _lenet5_relu() -> tuple[Layer, ...]:
    first = (Conv2D(2, (3, 3), padding="same"), RELU, MaxPool())
    second = (Conv2D(3, (3, 3), padding="same"), RELU, MaxPool())
    return *first, *second, Flatten(), Dense(3)


def _mlp_dropout_batch_norm() -> tuple[Layer, ...]:
    first = (Dense(8), RELU, Dropout(0.5), BatchNorm())
    second = (Dense(6), RELU, Dropout(0.2), BatchNorm())
    return *first, *second, Dense(3)


def _residual() -> tuple[Layer, ...]:
    inner = (BatchNorm(), RELU, Conv2D(2, (3, 3), padding="same"))
    pools = parallel(MaxPool(), AveragePool())
    down = residual(*inner, Conv2D(3, (3, 3), (2, 2), "same"), shortcut=Conv2D(3, (1, 1), (2, 2)))
    return Conv2D(2, (3, 3), padding="same"), residual(*inner), down, pools, Flatten(), Dense(3)


MLP = TrajectoryNetwork(
    Model("mlp", (6,), (Dense(8), RELU, Dense(6), RELU, Dense(3))), Adam(0.01, epsilon=SMOOTH)
)
MLP_DROPOUT_BATCH_NORM = TrajectoryNetwork(
    Model("mlp-dropout-batch_norm", (6,), _mlp_dropout_batch_norm()),
    Adam(0.01, epsilon=SMOOTH),
)
LENET5_TANH = TrajectoryNetwork(
    Model("lenet5-tanh", (8, 8, 1), _lenet5_tanh()), SGD(0.1, momentum=0.9)
)
LENET5_RELU = TrajectoryNetwork(
    Model("lenet5-relu", (8, 8, 1), _lenet5_relu()), RMSprop(0.003, epsilon=SMOOTH)
)
RESIDUAL = TrajectoryNetwork(Model("residual", (8, 8, 1), _residual()), SGD(0.01, momentum=0.9))

IMAGE_AND_TABLE = TrajectoryNetwork(
    Model(
        "image-and-table",
        inputs=(Input("photo", (6, 6, 1)), Input("features", (5,))),
        layers=(
            parallel(
                serial(Conv2D(2, (3, 3)), BatchNorm(), RELU, Flatten(), source="photo"),
                serial(Dense(4), TANH, Dropout(0.5), source="features"),
            ),
            Dense(5),
            TANH,
            Dense(3),
        ),
    ),
    SGD(0.1, momentum=0.9),
)
TWO_TOWERS = TrajectoryNetwork(
    Model(
        "two-towers",
        inputs=(Input("question", (4,), "int"), Input("answer", (4,), "int")),
        layers=(
            parallel(
                serial(Embedding(7, 3), Flatten(), Dense(4), TANH, source="question"),
                serial(Embedding(7, 3), Flatten(), Dense(4), TANH, source="answer"),
            ),
            Dense(3),
        ),
    ),
    SGD(0.1, momentum=0.9),
)
QUERY_AND_CONTEXT = TrajectoryNetwork(
    Model(
        "query-and-context",
        inputs=(Input("query", (6,)), Input("context", (6,)), Input("age", (2,))),
        layers=(
            parallel(serial(Dense(6), TANH, source="context"), serial(source="query"), join=Add()),
            parallel(serial(), serial(source="age")),
            Dense(3),
        ),
    ),
    RMSprop(0.003, epsilon=SMOOTH),
)


def _translation() -> tuple[Layer, ...]:
    """Return an encoder, and a decoder that attends to its output twice."""
    to_memory = MultiHeadAttention(2, key_size=1, drop_rate=0.3, context=True)
    attend = residual(parallel(serial(), serial(source="memory"), join=to_memory))
    encoder = (Embedding(7, 6), TANH, Node("memory", LayerNorm(), "activation_1"))
    decoder = residual(MultiHeadAttention(2, key_size=1, causal=True)), attend, LayerNorm(), attend
    return *encoder, serial(Embedding(7, 4), *decoder, source="prefix"), Flatten(), Dense(3)


TRANSLATION = TrajectoryNetwork(
    Model(
        "translation",
        inputs=(Input("sentence", (5,), "int"), Input("prefix", (3,), "int")),
        layers=_translation(),
    ),
    SGD(0.1, momentum=0.9),
)


def _every_draw() -> tuple[Layer, ...]:
    attention = MultiHeadAttention(2, key_size=3, drop_rate=0.3)
    head = (Flatten(), Dense(8), RELU, Dropout(0.5), BatchNorm(), Dense(3))
    return Embedding(7, 6), SpatialDropout(0.3), attention, *head


EVERY_DRAW = TrajectoryNetwork(
    Model("every-draw", (5,), _every_draw(), input_dtype="int"),
    Adam(0.01, epsilon=SMOOTH),
)
"""A network with every layer that draws masks, and several kinds of initial weights."""

NETWORKS = {
    network.model.name: network
    for network in (
        *(MLP, MLP_DROPOUT_BATCH_NORM, LENET5_TANH, LENET5_RELU, RESIDUAL),
        *(IMAGE_AND_TABLE, TWO_TOWERS, QUERY_AND_CONTEXT, TRANSLATION),
    )
}

_TO_CLASSES = (Dense(5), TANH, Dense(3))
_ENDS: Mapping[str, Model] = {
    "activation": Model("activation", (6,), (*_TO_CLASSES, TANH)),
    "dropout": Model("dropout", (6,), (*_TO_CLASSES, Dropout(0.3))),
    "norm": Model("norm", (6,), (*_TO_CLASSES, LayerNorm())),
    "add": Model("add", (6,), (parallel(Dense(3), serial(*_TO_CLASSES), join=Add()),)),
    "concat": Model("concat", (6,), (parallel(Dense(1), serial(Dense(4), TANH, Dense(2))),)),
    "pool": Model("pool", (5, 4), (*_TO_CLASSES, GlobalAveragePool())),
    "flatten": Model("flatten", (1, 6), (*_TO_CLASSES, Flatten())),
}
ENDS = {name: TrajectoryNetwork(model, SGD(0.1, momentum=0.9)) for name, model in _ENDS.items()}
"""Networks whose last layer is not a dense one, by what they end in."""


def _renamed(network: TrajectoryNetwork) -> TrajectoryNetwork:
    """Return a network each of whose nodes has the name of the next, with more characters."""
    model, names = network.model, network.model.names
    new = {name: f"{names[(n + 1) % len(names)]} é/{n}" for n, name in enumerate(names)}
    connections = tuple(
        (new[row.name], tuple(new.get(source, source) for source in row.inputs))
        for row in model.table
    )
    return TrajectoryNetwork(replace(model, connections=connections), SGD(0.01, momentum=0.9))


RENAMED = {network.model.name: _renamed(network) for network in (RESIDUAL, EVERY_DRAW, TRANSLATION)}
"""Networks whose names mislead, with most kinds of layers."""


def uniform(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return values from 0 to 1, as those of scaled pixels."""
    return generator.random(shape)


def many_tensors(trial: Trial, count: int) -> Model:
    """Return a network with an even number of trainable tensors: dense layers of four units with
    tanh and, where the engine has it, batch norm."""
    norms = (BatchNorm(epsilon=0.1),) if "batch_norm" in trial.kinds else ()
    block: tuple[Layer, ...] = (Dense(4), TANH, *norms)
    blocks, rest = divmod(count - 2, 2 + 2 * len(norms))
    layers = (*block * blocks, *(Dense(4), TANH) * (rest // 2), Dense(3))
    return supported(trial, Model("tensors", (4,), layers))


def mild_weights(model: Model, seed: int) -> Weights:
    """Return weights with which neither values nor gradients vanish or explode in a deep network:
    orthogonal kernels, and small scales and shifts."""
    generator = np.random.default_rng((seed, 3))
    weights = strategies.nonzero_weights(model, seed)
    for name, values in weights.items():
        if values.ndim == 2:
            square = np.linalg.qr(generator.standard_normal((max(values.shape),) * 2))[0]
            weights[name] = square[: values.shape[0], : values.shape[1]]
        elif not name.endswith(".moving_variance"):
            weights[name] = 0.4 * values
    return weights


def smooth(optimizer: Optimizer) -> Optimizer:
    """Return an optimiser with an epsilon of SMOOTH, if it has one."""
    known = {field.name for field in fields(optimizer)}
    changes: dict[str, Any] = {"epsilon": SMOOTH} if "epsilon" in known else {}
    return replace(optimizer, **changes)


def optimizer_with_state(trial: Trial) -> Optimizer:
    """Return the optimiser of the engine that keeps the most values for each weight.

    Raises NotApplicableError if the engine has none.
    """
    available = [o for o in VARIANTS.values() if has(trial, *optimizer_requirements(o))]
    defined = [o for o in available if allowing_conventions(trial, o)]
    if not defined:
        raise NotApplicableError("the engine lacks every optimiser")
    return max(defined, key=_state_size)


def _state_size(optimizer: Optimizer) -> int:
    state: OracleState = {}
    updated(optimizer, np.zeros(1), np.ones(1), optimizer.learning_rate, 1, state)
    return len(state)


def prepare(trial: Trial, network: TrajectoryNetwork) -> tuple[Model, Recipe, Samples]:
    """Return the model and a recipe of three epochs, in the engine's convention, and samples."""
    loss = example_loss(trial, CategoricalCrossEntropy())
    recipe = Recipe(network.optimizer, batch_size=BATCH, epochs=3, loss=loss)
    generator = np.random.default_rng(trial.seed)
    x = strategies.inputs(network.model, SAMPLES, generator, uniform)
    samples = Samples(x, strategies.targets(loss, CLASSES, SAMPLES, generator))
    return trainable(trial, network.model, loss), supported(trial, recipe), samples
