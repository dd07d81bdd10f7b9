"""The parts that a native training may have beside the plainest recipe and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import join_inputs
from dlsys_bench.engines.requirements import loss_requirements, requirements
from dlsys_bench.spec.augmentation import InputNoise
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.batches import CyclicalBatchSize
from dlsys_bench.spec.clipping import ClipNorm, ClipValue
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.graph import parallel, serial
from dlsys_bench.spec.inputs import Input
from dlsys_bench.spec.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Layer,
    MultiHeadAttention,
)
from dlsys_bench.spec.loss_scale import LossScale
from dlsys_bench.spec.losses import (
    BinaryCrossEntropy,
    CategoricalCrossEntropy,
    HalfMeanSquaredError,
    Hinge,
    Huber,
    Loss,
    SparseCategoricalCrossEntropy,
)
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import LearningRateRamp

HEIGHT, WIDTH = 5, 6
COUNT = HEIGHT * WIDTH
"""The number of samples, which are also the pixels of an image of one."""
EPOCHS = 3
DROP_RATE = 0.5

MOMENTUM = SGD(0.0125, momentum=0.8)
PLAIN = Recipe(MOMENTUM, batch_size=4, epochs=EPOCHS)
"""The plainest recipe by which rows show when they moved: 8 updates in an epoch."""


@dataclass(frozen=True)
class InputKind:
    """Inputs of a kind: the shape of one sample, and the layers below the last kernel.

    The first `COUNT` rows of the last kernel are those of the samples. Other tensors are zero, and
    so are their gradients, so that they stay zero.
    """

    shape: tuple[int, ...] = (COUNT,)
    below: tuple[Layer, ...] = ()
    inputs: tuple[Input, ...] = ()
    tokens: bool = False

    def model(self, outputs: int, drops: bool) -> Model:
        """Return a model whose last kernel has a row for each sample, with dropout if it drops."""
        dropout = (Dropout(DROP_RATE),) * drops
        if self.tokens:
            layers = (Embedding(COUNT, outputs), *dropout, Flatten())
            return Model("beside", self.shape, layers, input_dtype="int")
        layers = (*self.below, *dropout, Dense(outputs, use_bias=False))
        if self.inputs:
            return Model("beside", inputs=self.inputs, layers=layers)
        return Model("beside", self.shape, layers)

    @property
    def x(self) -> NDArray[Any]:
        """The inputs of the samples."""
        if self.tokens:
            return np.arange(COUNT)[:, None]
        if self.inputs:
            left, right = self.inputs
            return join_inputs({left.name: np.eye(COUNT), right.name: np.zeros((COUNT, 2))})
        return np.eye(COUNT).reshape(COUNT, *self.shape)


VECTORS = InputKind()


@dataclass(frozen=True)
class TrainingPart:
    """What a training has beside the plainest: options of the recipe, a loss, or other inputs.

    The options are such that they change no update visibly.
    """

    options: Mapping[str, Any]
    loss: Loss | None = None
    kind: InputKind = VECTORS

    @property
    def requires(self) -> list[str]:
        """What an engine must have for the part; everything else may be replaced."""
        recipe = replace(PLAIN, **self.options)
        plain = requirements(recipe=PLAIN, parity=True)
        needed = [name for name in requirements(recipe=recipe) if name not in plain]
        of_loss = loss_requirements(self.loss) if self.loss else []
        model = self.kind.model(1, drops=False)
        # A norm does not let its initialisers be chosen.
        norms = [each for each in model.tensors if each.name.startswith(BatchNorm.kind)]
        drawn = [f"initializer:{tensor.initializer.kind}" for tensor in norms]
        return [*needed, *of_loss, *requirements(model, drawn=False), *drawn]


_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "momentum": {},
    Adam.kind: {"optimizer": Adam(0.01)},
    # The rate grows from step to step, as what momentum makes of a gradient falls.
    "schedule": {
        "optimizer": SGD(0.0125),
        "schedule": LearningRateRamp(0.005, 0.0125, 8 * EPOCHS, "difference"),
    },
    "decay-coupled": {"optimizer": replace(MOMENTUM, decay=WeightDecay(1e-9, "coupled"))},
    "decay-decoupled": {"optimizer": replace(MOMENTUM, decay=WeightDecay(1e-9))},
    "batch_sizes": {"batch_sizes": CyclicalBatchSize(2, 4)},
    "accumulate": {"accumulate": 2},
    "augment": {"augment": (InputNoise(1e-15),)},
    ClipNorm.kind: {"clip": ClipNorm(1e6)},
    ClipValue.kind: {"clip": ClipValue(1e6)},
    "average": {"average": WeightAverage(0.5)},
    "loss_scale": {"loss_scale": LossScale(1024.0)},
}

_LOSSES: Mapping[str, Loss] = {
    CategoricalCrossEntropy.kind: CategoricalCrossEntropy(),
    SparseCategoricalCrossEntropy.kind: SparseCategoricalCrossEntropy(),
    "categorical_crossentropy-label_smoothing": CategoricalCrossEntropy(label_smoothing=0.25),
    "categorical_crossentropy-ignored_label": CategoricalCrossEntropy(ignored_label=-1),
    "categorical_crossentropy-class_weights": CategoricalCrossEntropy(class_weights=(2.0, 2.0)),
    BinaryCrossEntropy.kind: BinaryCrossEntropy(),
    HalfMeanSquaredError.kind: HalfMeanSquaredError(),
    Huber.kind: Huber(0.5),
    Hinge.kind: Hinge(),
}

_KINDS: Mapping[str, InputKind] = {
    "sequences": InputKind((HEIGHT, WIDTH), (Flatten(),)),
    "images": InputKind((HEIGHT, WIDTH, 1), (Flatten(),)),
    Conv2D.kind: InputKind(
        (HEIGHT, WIDTH, 1),
        (parallel(Flatten(), serial(Conv2D(1, (1, 1), use_bias=False), Flatten())),),
    ),
    BatchNorm.kind: InputKind(below=(parallel(serial(), BatchNorm()),)),
    MultiHeadAttention.kind: InputKind(
        (HEIGHT, WIDTH), (parallel(Flatten(), serial(MultiHeadAttention(1, 2), Flatten())),)
    ),
    Embedding.kind: InputKind((1,), tokens=True),
    "inputs": InputKind(
        below=(parallel(serial(source="left"), serial(source="right")),),
        inputs=(Input("left", (COUNT,)), Input("right", (2,))),
    ),
}

PARTS: Mapping[str, TrainingPart] = {
    **{name: TrainingPart(options) for name, options in _OPTIONS.items()},
    **{name: TrainingPart({}, loss=loss) for name, loss in _LOSSES.items()},
    **{name: TrainingPart({}, kind=kind) for name, kind in _KINDS.items()},
}
"""The parts, by the subject of their checks."""
