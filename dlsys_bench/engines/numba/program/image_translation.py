"""The table of the layers of a model that compute images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.numba.program.functions import LEAKY
from dlsys_bench.engines.numba.program.image_tables import (
    ACTIVATION,
    BATCH_NORM,
    CONVOLUTION,
    DROPOUT,
    POOL,
    READ,
    WRITE,
    covers,
    image_layers,
    image_row,
    images,
    pixels,
)
from dlsys_bench.engines.numba.program.tables import FUNCTIONS, SLOPES
from dlsys_bench.spec.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Conv2D,
    Dropout,
    Layer,
    Shape,
)
from dlsys_bench.spec.model import Model


class ImageTable(NamedTuple):
    """The rows of a program on images, and the pixels of values and gradients, statistics and
    masks. A stage of rows ends where all samples have to be known: before a batch norm, and at the
    end; `stages` has the first row of each, followed by the number of rows. `lowest` is the first
    row with a gradient, `dropouts` are the layers that draw masks, and `parameters` the number of
    parameters."""

    rows: NDArray[Any]
    stages: NDArray[np.intp]
    lowest: int
    sizes: dict[str, int]
    dropouts: tuple[int, ...]
    parameters: int


def translate_images(model: Model, places: Mapping[str, int], drops_nothing: bool) -> ImageTable:
    """Return the table of the first layers of a model, which compute images. `places` is where each
    tensor begins. A dropout layer of rate 0 has no row if it `drops_nothing`."""
    translation = _ImageTranslation(model, places, drops_nothing)
    count = image_layers(model)
    while translation.index + 1 < count:
        translation.index += 1
        layer = model.layers[translation.index]
        IMAGE_ROWS[type(layer)](translation, layer)
    if count:
        translation.add(WRITE)
    rows = translation.rows
    stages = [k for k, row in enumerate(rows) if row["kind"] in (READ, BATCH_NORM)]
    learning = [k for k, row in enumerate(rows) if row["kind"] in (CONVOLUTION, BATCH_NORM)]
    names = set(model.names[:count])
    tensors = [tensor for tensor in model.tensors if tensor.trainable]
    return ImageTable(
        np.array(rows),
        np.array([*stages, len(rows)] if count else [0]),
        learning[0] if learning else len(rows),
        translation.sizes,
        tuple(translation.dropouts),
        sum(t.size for t in tensors if t.name.rpartition(".")[0] in names),
    )


class _ImageTranslation:
    """A table that grows.

    Activations and dropout overwrite their input, unless the derivative of a layer below reads it.
    The output of a layer has zeros around it if a convolution pads it.
    """

    def __init__(self, model: Model, places: Mapping[str, int], drops_nothing: bool) -> None:
        self.model, self.places, self.drops_nothing = model, places, drops_nothing
        self.index, self.dropouts, self.learns = -1, list[int](), False
        self.sizes = {"values": 0, "gradients": 0, "statistics": 0, "masks": 0}
        shape = model.input_shape if image_layers(model) else (0, 0, 0)
        self.rows = [image_row(kind=READ, y=self.values(shape), dy=self.gradients(shape))]
        # The function whose derivative reads the last output.
        self.read_by: int | None = None

    @property
    def name(self) -> str:
        """The name of the layer."""
        return self.model.names[self.index]

    @property
    def input_shape(self) -> Shape:
        """The shape of the input of the layer."""
        return self.model.shapes[self.index]

    def take(self, what: str, count: int) -> int:
        """Reserve memory, and return where it begins."""
        place, self.sizes[what] = self.sizes[what], self.sizes[what] + count
        return place

    def values(self, shape: Shape) -> Any:
        """Reserve memory for an output, with the zeros that the next convolution wants."""
        found = images(self.sizes["values"], shape, self._pads(shape))
        self.take("values", pixels(found))
        return found

    def gradients(self, shape: Shape) -> Any:
        """Reserve memory for the gradient in an output."""
        return images(self.take("gradients", math.prod(shape)), shape)

    def _pads(self, shape: Shape) -> Any:
        for layer in self.model.layers[self.index + 1 :]:
            if isinstance(layer, Conv2D) and not covers(layer, shape):
                return layer.pads(shape)
            if not isinstance(layer, Activation | Dropout):
                break
        return ((0, 0), (0, 0))

    def add(self, kind: int, **values: Any) -> None:
        """Add a row that takes the output of the last one, and by default overwrites it."""
        last = self.rows[-1]
        places = {"x": last["y"], "y": last["y"], "dx": last["dy"], "dy": last["dy"]}
        row = places | {"kind": kind, "wants_dx": self.learns} | values
        self.rows.append(image_row(**row))

    def new(self, shape: Shape) -> dict[str, Any]:
        """Return memory for an output of a shape and its gradient."""
        self.read_by = None
        return {"y": self.values(shape), "dy": self.gradients(shape)}

    def convolution(self, layer: Conv2D) -> None:
        """Take new memory."""
        self.add(
            CONVOLUTION,
            **self.new(layer.output_shape(self.input_shape)),
            tall=layer.kernel_size[0],
            wide=layer.kernel_size[1],
            first=self.places[f"{self.name}.kernel"],
            second=self.places[f"{self.name}.bias"] if layer.use_bias else -1,
        )
        self.learns = True

    def activation(self, layer: Activation) -> None:
        """Overwrite the input, unless another derivative reads it."""
        memory = {} if self.read_by is None else {"y": self.values(self.input_shape)}
        function = FUNCTIONS.get(layer.function, LEAKY)
        slope = SLOPES.get(layer.function, layer.negative_slope)
        self.add(ACTIVATION, **memory, function=function, number=slope)
        self.read_by = function

    def dropout(self, layer: Dropout) -> None:
        """Reserve a mask. What it does not drop keeps its sign, which leaky_relu reads."""
        if layer.drop_rate == 0 and self.drops_nothing:
            return
        kept = self.read_by in (None, LEAKY)
        memory = {} if kept else {"y": self.values(self.input_shape)}
        self.read_by = self.read_by if kept else None
        self.dropouts.append(self.index)
        place = self.take("masks", math.prod(self.input_shape))
        self.add(DROPOUT, **memory, place=place, number=layer.drop_rate)

    def batch_norm(self, layer: BatchNorm) -> None:
        """Compute an average pool that follows as well."""
        name, shape, out = self.name, self.input_shape, self.input_shape
        (tall, wide), (down, across) = (1, 1), (1, 1)
        follower = self.model.layers[self.index + 1]
        if isinstance(follower, AveragePool):
            (tall, wide), (down, across) = follower.pool_size, follower.steps
            out, self.index = follower.output_shape(shape), self.index + 1
        self.add(
            BATCH_NORM,
            **self.new(out),
            tall=tall,
            wide=wide,
            down=down,
            across=across,
            first=self.places[f"{name}.gamma"],
            second=self.places[f"{name}.beta"],
            state=self.places[f"{name}.moving_mean"],
            place=self.take("statistics", shape[2]),
            number=layer.epsilon,
            decay=layer.moving_decay,
            unbiased=layer.moving_variance == "unbiased",
        )
        self.learns = True

    def pool(self, layer: AveragePool) -> None:
        """Take new memory."""
        (tall, wide), (down, across) = layer.pool_size, layer.steps
        memory = self.new(layer.output_shape(self.input_shape))
        self.add(POOL, **memory, tall=tall, wide=wide, down=down, across=across)


IMAGE_ROWS: dict[type[Layer], Callable[[_ImageTranslation, Any], None]] = {
    Conv2D: _ImageTranslation.convolution,
    Activation: _ImageTranslation.activation,
    Dropout: _ImageTranslation.dropout,
    BatchNorm: _ImageTranslation.batch_norm,
    AveragePool: _ImageTranslation.pool,
}
"""The method that adds the row of a layer."""
