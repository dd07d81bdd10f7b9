"""Layers of the sizes for which engines have fast paths, and networks of many rows.

Real layers have multiples of 32 or 64 units, channels and positions, for which libraries have
kernels of their own. The large sizes of the other checks are uneven, so that they reveal what is
left over; these are even.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.checks.directions import compare_slopes
from dlsys_bench.conformance.checks.sizes import compare_outputs, grid_inputs
from dlsys_bench.conformance.checks.subjects import label_loss
from dlsys_bench.conformance.checks.support import example_loss, needed_layers, trainable
from dlsys_bench.conformance.strategies import Example, nonzero_weights, targets
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.plan import Plan
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv1D,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    GroupNorm,
    LayerNorm,
    MultiHeadAttention,
    PositionEmbedding,
    RMSNorm,
)
from dlsys_bench.spec.losses import Loss
from dlsys_bench.spec.model import Model


class Sized(NamedTuple):
    """A network, and the number of its samples."""

    model: Model
    samples: int

    @property
    def requires(self) -> list[str]:
        """What an engine must have: the layers that nothing can replace."""
        return needed_layers(self.model)


TANH = Activation("tanh")

_SEQUENCES = (
    *(Embedding(128, 64), PositionEmbedding(64), MultiHeadAttention(2, key_size=64), LayerNorm()),
    *(MultiHeadAttention(4, key_size=64, causal=True), RMSNorm()),
    *(Conv1D(32, 4, padding="causal"), TANH, GroupNorm(groups=32)),
    *(Conv1D(32, groups=32), Conv1D(64, groups=2, padding="same"), Dense(64), TANH),
)
_IMAGES = (
    *(Conv2D(32, padding="same"), TANH, GroupNorm(groups=32)),
    *(Conv2D(32, padding="same", groups=32), AveragePool((4, 4))),
    *(Conv2D(64, groups=2), TANH, BatchNorm()),
)
SIZED = {
    "even-vectors": Sized(
        Model("vectors", (64,), (Dense(64), TANH, GroupNorm(groups=32), BatchNorm(), Dense(576))),
        128,
    ),
    "even-sequences": Sized(
        Model("sequences", (64,), (*_SEQUENCES, Flatten(), Dense(3)), input_dtype="int"), 2
    ),
    "even-images": Sized(Model("images", (40, 48, 32), (*_IMAGES, Flatten(), Dense(3))), 2),
    "many-vectors": Sized(Model("vectors", (2,), (Dense(4), TANH, Dense(3))), 65_600),
    "many-sequences": Sized(
        Model(
            "sequences",
            (32,),
            (Embedding(50, 4), Conv1D(4, padding="same"), TANH, Dense(4), Flatten(), Dense(3)),
            input_dtype="int",
        ),
        2050,
    ),
}
"""Networks of aligned sizes, and of more than 65,535 rows, by the subject of their checks."""


def requires(case: Sized) -> Iterable[str]:
    """Return what an engine must have for a network."""
    return case.requires


@check_each("forward", SIZED, requires=requires)
def forward(trial: Trial, case: Sized) -> None:
    """The outputs of layers of aligned sizes, or for more than 65,535 rows, in training, and the
    prediction.

    Why: Libraries have other kernels for multiples of 32 and 64, and two bytes cannot number so
    many rows.
    Broken by: An engine whose products of aligned sizes round their factors to 11 bits, or whose
    attention forgets the last of 64 keys.
    Fix: The finding names the rows and columns that differ: compare with a size one larger.
    """
    compare_outputs(trial, _example(trial, case))


@check_each("gradient", SIZED, requires=requires)
def gradient(trial: Trial, case: Sized) -> None:
    """The gradients of layers of aligned sizes, or for more than 65,535 rows, along random
    directions.

    Why: Libraries have other kernels for multiples of 32 and 64, and a sum over many rows may be
    split or counted in too few bits.
    Broken by: An engine that forgets the last rows of a kernel of 64 by 64 in its gradient, or
    counts a token at most 255 times.
    Fix: The finding names the rows and columns that differ: compare with a size one larger.
    """
    compare_slopes(trial, _example(trial, case))


def _example(trial: Trial, case: Sized) -> Example:
    """Return an example with a loss of labels if the engine has one: the outputs are classes."""
    loss = _loss(trial)
    model, generator = trainable(trial, case.model, loss), np.random.default_rng((trial.seed, 2))
    batch = Batch(
        grid_inputs(model, case.samples, generator),
        targets(loss, model.output_shape[0], case.samples, generator),
        Plan(trial.seed).masks(model, 0, case.samples),
        training=True,
    )
    return Example(model, nonzero_weights(model, trial.seed), batch, loss, trial.seed)


def _loss(trial: Trial) -> Loss:
    try:
        return label_loss(trial)
    except NotApplicableError:
        return example_loss(trial)
