"""The table of a model: a row for each layer that computes something."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.program.image_tables import image_layers
from dlsys_bench.engines.numba.program.image_translation import ImageTable, translate_images
from dlsys_bench.engines.numba.program.tables import (
    ACTIVATION,
    BATCH_NORM,
    DENSE,
    DROPOUT,
    FEATURES,
    FUNCTIONS,
    INPUT,
    SLOPES,
    block_of,
    row,
)
from dlsys_bench.spec.layers import (
    Activation,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
)
from dlsys_bench.spec.model import Model


class ProgramTable(NamedTuple):
    """The rows of a program, the first row of each group followed by the number of rows, and the
    units of values, gradients, statistics and masks. `dropouts` are the layers that draw masks, and
    `masks` where those begin, with the units of each, (dropouts, 2). The first layers may have a
    table of their own, of images."""

    rows: NDArray[Any]
    groups: NDArray[np.intp]
    sizes: dict[str, int]
    dropouts: tuple[int, ...]
    masks: NDArray[np.int64]
    images: ImageTable


def translate(model: Model, drops_nothing: bool) -> ProgramTable:
    """Return the table of a model. A dropout layer of rate 0 has no row if it `drops_nothing`."""
    translation = _Translation(model, drops_nothing)
    for index in range(image_layers(model), len(model.layers)):
        layer = model.layers[index]
        ROWS[type(layer)](translation, index, layer)
    rows, groups = translation.rows, [*translation.groups, len(translation.rows)]
    images, dropouts = translation.images, tuple(translation.dropouts)
    units = [math.prod(model.shapes[index]) for index in dropouts]
    masks = (
        np.array([np.cumsum([0, *units[:-1]]), units], np.int64).T if units else np.empty((0, 2))
    )
    return ProgramTable(
        np.array(rows),
        np.array(groups),
        translation.sizes,
        dropouts,
        np.ascontiguousarray(masks, np.int64),
        images,
    )


class _Translation:
    """A table that grows. Dropout and activations overwrite their input, unless the derivative of a
    layer below reads it, and a leaky_relu becomes part of the layer before it."""

    def __init__(self, model: Model, drops_nothing: bool) -> None:
        self.model, self.drops_nothing = model, drops_nothing
        first, self.places = image_layers(model), dict[str, int]()
        for trainable in (True, False):
            tensors = [tensor for tensor in model.tensors if tensor.trainable == trainable]
            ends = np.cumsum([0, *(tensor.size for tensor in tensors)]).tolist()
            self.places |= {tensor.name: end for tensor, end in zip(tensors, ends, strict=False)}
        self.images = images = translate_images(model, self.places, drops_nothing)
        units, kind = math.prod(model.shapes[first]), FEATURES if first else INPUT
        self.rows = [row(kind=kind, units=units, block=block_of(units))]
        self.groups, self.dropouts = [0], list(images.dropouts)
        masks = images.sizes["masks"]
        self.sizes = {"values": units, "gradients": units, "statistics": 0, "masks": masks}
        self.learns = images.lowest < len(images.rows)
        # The function whose derivative reads the last output.
        self.read_by: str | None = None

    @property
    def units(self) -> int:
        """The units of the last row."""
        return int(self.rows[-1]["units"])

    def take(self, what: str, units: int) -> int:
        """Reserve memory, and return where it begins."""
        place, self.sizes[what] = self.sizes[what], self.sizes[what] + units
        return place

    def add(self, kind: int, units: int, **values: Any) -> None:
        """Add a row that takes the output of the last one, and by default overwrites it."""
        last = self.rows[-1]
        common = {"kind": kind, "inputs": self.units, "units": units, "block": block_of(units)}
        places = {"x": last["y"], "y": last["y"], "d": last["d"]}
        self.rows.append(row(**(common | places | values)))

    def flatten(self, index: int, layer: Flatten) -> None:
        """Values are flat already."""

    def dense(self, index: int, layer: Dense | Conv2D) -> None:
        """Start a group. A convolution with one window is a dense layer."""
        name = self.model.names[index]
        units = layer.units if isinstance(layer, Dense) else layer.filters
        self.read_by = None
        self.groups.append(len(self.rows))
        self.add(
            DENSE,
            units,
            y=self.take("values", units),
            d=self.take("gradients", units),
            first=self.places[f"{name}.kernel"],
            second=self.places[f"{name}.bias"] if layer.use_bias else -1,
            wants_dx=self.learns,
        )
        self.learns = True

    def activation(self, index: int, layer: Activation) -> None:
        """Let the layer before compute it, if it can."""
        last, slope = self.rows[-1], SLOPES.get(layer.function, layer.negative_slope)
        if layer.function in FUNCTIONS:
            self.add(
                ACTIVATION,
                self.units,
                **({} if self.read_by is None else {"y": self.take("values", self.units)}),
                function=FUNCTIONS[layer.function],
            )
        elif last["kind"] in (DENSE, BATCH_NORM) and last["slope"] == 1:
            last["slope"] = slope
        else:
            kept = self.read_by not in FUNCTIONS
            memory = {} if kept else {"y": self.take("values", self.units)}
            self.add(ACTIVATION, self.units, **memory, slope=slope)
        self.read_by = layer.function

    def dropout(self, index: int, layer: Dropout) -> None:
        """Reserve a mask. What it does not drop keeps its sign, which leaky_relu reads."""
        if layer.drop_rate == 0 and self.drops_nothing:
            return
        units, kept = self.units, self.read_by not in FUNCTIONS
        memory = {} if kept else {"y": self.take("values", units)}
        self.read_by = self.read_by if kept else None
        self.dropouts.append(index)
        place = self.take("masks", units)
        self.add(DROPOUT, units, **memory, place=place, number=layer.drop_rate)

    def batch_norm(self, index: int, layer: BatchNorm) -> None:
        """Keep the input, which the backward pass reads."""
        name, units = self.model.names[index], self.units
        self.read_by = None
        self.add(
            BATCH_NORM,
            units,
            y=self.take("values", units),
            first=self.places[f"{name}.gamma"],
            second=self.places[f"{name}.beta"],
            state=self.places[f"{name}.moving_mean"],
            place=self.take("statistics", units),
            number=layer.epsilon,
            decay=layer.moving_decay,
            unbiased=layer.moving_variance == "unbiased",
        )
        self.learns = True


ROWS: dict[type[Layer], Callable[[_Translation, int, Any], None]] = {
    Flatten: _Translation.flatten,
    Dense: _Translation.dense,
    Conv2D: _Translation.dense,
    Activation: _Translation.activation,
    Dropout: _Translation.dropout,
    BatchNorm: _Translation.batch_norm,
}
"""The method that adds the row of a layer."""
