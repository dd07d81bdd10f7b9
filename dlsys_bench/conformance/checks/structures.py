"""Networks of a structure or of values that engines have separate code for.

An inference engine folds a batch norm into the layer below it, a fused kernel adds a shortcut and
takes the relu, attention runs over blocks of keys, and a maximum starts from a number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.forward import compare as compare_outputs
from dlsys_bench.conformance.checks.gradient import compare as compare_gradients
from dlsys_bench.conformance.checks.subjects import is_smooth
from dlsys_bench.conformance.checks.support import example_loss, trainable
from dlsys_bench.conformance.guard import Guard
from dlsys_bench.conformance.strategies import Example, inputs, nonzero_weights, targets
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.plan import Array
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.graph import parallel, serial
from dlsys_bench.spec.layers import (
    LAYERS,
    Activation,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    MultiHeadAttention,
    Shape,
)
from dlsys_bench.spec.model import Model

Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def _normal(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return generator.standard_normal(shape)


def _negative(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return large negative values that are far from each other."""
    order = generator.permutation(np.prod(shape)).reshape(shape)
    return -1e4 - 100.0 * order


def _unlike(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Return samples of which the first is a hundred times as large as the others."""
    x = generator.standard_normal(shape)
    x[0] *= 100
    return x


@dataclass(frozen=True)
class Structure:
    """A network, and the values of its inputs."""

    shape: Shape
    layers: tuple[Layer, ...]
    values: Draw = _normal

    @property
    def model(self) -> Model:
        """The model."""
        return Model("structure", self.shape, self.layers)

    @property
    def requires(self) -> list[str]:
        """The layers and functions of the network."""
        layers = self.model.layers
        functions = [x.function for x in layers if isinstance(x, Activation)]
        needed = [f"layer:{name}" for x in layers for name in x.needs]
        return [*dict.fromkeys(needed), *(f"function:{x}" for x in dict.fromkeys(functions))]


RELU, END = Activation("relu"), (Flatten(), Dense(2))
_SHORTER = Conv1D(4, 10, 10)
_TO_CONTEXT = MultiHeadAttention(2, context=True)

STRUCTURES: dict[str, Structure] = {
    "batch_norm-after-conv2d": Structure(
        (3, 3, 1), (Conv2D(2, (2, 2), use_bias=False), BatchNorm(), *END)
    ),
    "batch_norm-after-conv1d": Structure((4, 2), (Conv1D(3, 2, use_bias=False), BatchNorm(), *END)),
    "batch_norm-after-dense": Structure((3,), (Dense(3, use_bias=False), BatchNorm(), Dense(2))),
    "add-before-relu": Structure(
        (3,), (parallel(Dense(4), Dense(4), join=LAYERS["add"].of()), RELU, Dense(2))
    ),
    "cross_attention-of-long-context": Structure(
        (40, 4), (parallel(_SHORTER, serial(), join=_TO_CONTEXT), *END)
    ),
    "cross_attention-of-short-context": Structure(
        (40, 4), (parallel(serial(), _SHORTER, join=_TO_CONTEXT), *END)
    ),
    "max_pool-of-large-negatives": Structure((4, 4, 1), (MaxPool(), *END), _negative),
    "multi_head_attention-of-unlike-samples": Structure(
        (3, 4), (MultiHeadAttention(2), *END), _unlike
    ),
}
"""Networks by the subject of their checks."""


def _example(trial: Trial, structure: Structure, seed: int) -> Example:
    loss, generator = example_loss(trial), np.random.default_rng((seed, 4))
    model = trainable(trial, structure.model, loss)
    x = inputs(model, 3, generator, structure.values)
    batch = Batch(x, targets(loss, model.output_shape[0], 3, generator), training=True)
    return Example(model, nonzero_weights(model, seed), batch, loss, seed)


@check_each("gradient", STRUCTURES, requires=lambda structure: structure.requires)
def structures(trial: Trial, structure: Structure) -> None:
    """The outputs, the prediction and the gradients of the network {subject}.

    Why: Engines fuse layers, compute blocks at a time and start a maximum from a number, and leave
    out cases that the usual networks do not have.
    Broken by: An engine that folds a batch norm into a layer without a bias and forgets the mean,
    does not mask the gradient of a shortcut by the relu above it, or takes the number of the
    queries for that of the keys.
    Fix: Compute the network layer by layer, without the code for this structure, and compare.
    """
    examples = (_example(trial, structure, trial.seed + number) for number in count())
    example = next(each for each in examples if is_smooth(trial, each))
    compare_outputs(trial, example)
    compare_gradients(trial, example)


NORMS = {f"{kind}-of-small-values": of for kind, of in LAYERS.items() if of.normalizes}
"""Every layer that normalises, by the subject of its check."""

SMALL = 1e-3


@check_each("forward", NORMS, requires=lambda of: (f"layer:{of.kind}", "layer:dense"))
def small_values(trial: Trial, record: type[Layer]) -> None:
    """A normalisation of values around a thousandth, with an epsilon of 1e-12.

    Why: Features may have small units, and an epsilon that is larger than the variance leaves them
    small.
    Broken by: An engine that raises an epsilon to the least one that its kernel allows.
    Fix: Pass the epsilon as it is; compute the norm by another kernel if one requires more.
    """
    layer, loss = record.of(epsilon=1e-12), example_loss(trial)
    model = trainable(trial, Model("small", (4,), (layer, Dense(2))), loss)
    weights = nonzero_weights(model, trial.seed)
    for name, size in {"moving_mean": SMALL, "moving_variance": SMALL**2}.items():
        if (tensor := f"{layer.kind}_1.{name}") in weights:
            weights[tensor] = size * weights[tensor]
    generator = np.random.default_rng((trial.seed, 4))
    x = SMALL * generator.standard_normal((6, 4))
    batch = Batch(x, targets(loss, model.output_shape[0], 6, generator), training=True)
    compare_outputs(trial, Example(model, weights, batch, loss, trial.seed))


IN_BOTH = Structure((3, 14), (MultiHeadAttention(2, key_size=7), *END))


@check("forward", "multi_head_attention-after-float32", requires=IN_BOTH.requires, dtype="float64")
def after_single(trial: Trial) -> None:
    """An engine in float64, after one in float32 has computed the same in the same process.

    Why: A notebook compares precisions in one process, where both share what is kept globally.
    Broken by: An engine that keeps a constant of single precision for every later engine.
    Fix: Keep constants by dtype, or compute them anew.
    """
    if "float32" not in trial.make("").dtypes:
        raise NotApplicableError("the engine has no float32")
    example, before = _example(trial, IN_BOTH, trial.seed), Guard(trial.make("float32"))
    before.trace(before.build(example.model, example.weights), example.batch)
    compare_outputs(trial, example)
