# mypy: disallow-subclassing-any=False
"""A model as a keras.Model. This module imports keras, so it is imported only after an engine
has started its backend."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from dlsys_bench.engines.keras.backend import BACKENDS, TensorList
from dlsys_bench.engines.keras.layers import (
    KeptDropout,
    KerasAttention,
    KerasGlobalAveragePool,
    KerasImageDropout,
    KerasPositionEmbedding,
    KerasRMSNorm,
    KerasSequenceDropout,
)
from dlsys_bench.engines.keras.parts import PartedModel
from dlsys_bench.engines.plan import Weights
from dlsys_bench.spec import initializers, layers
from dlsys_bench.spec.initializers import Distribution
from dlsys_bench.spec.model import Model, Tensor

KeptMasks = Mapping[int, NDArray[np.bool_]]


def _activation(layer: layers.Activation, shape: layers.Shape, **options: Any) -> Any:
    if layer.function == "leaky_relu":
        return keras.layers.LeakyReLU(layer.negative_slope, **options)
    if layer.function == "gelu_tanh":
        gelu = keras.activations.gelu
        return keras.layers.Activation(lambda x: gelu(x, approximate=True), **options)
    return keras.layers.Activation(layer.function, **options)


# The layout is given explicitly, since a user's keras.json may have another default.
NHWC = "channels_last"


def _convolution(kind: Any, layer: layers.Convolution, shape: layers.Shape, **options: Any) -> Any:
    return kind(
        layer.filters,
        layer.kernel_size,
        layer.strides,
        layer.padding,
        NHWC,
        layer.dilation,
        layer.groups,
        use_bias=layer.use_bias,
        **options,
    )


def _attention(layer: layers.MultiHeadAttention, shape: layers.Shape, **options: Any) -> Any:
    # Keras would start the kernels alike from one seeded initialiser: they are drawn afterwards.
    options = {name: value for name, value in options.items() if name in ("name", "dtype")}
    return KerasAttention(layer, shape, kernel_initializer="zeros", **options)


def _spatial_dropout(layer: layers.SpatialDropout, shape: layers.Shape, **options: Any) -> Any:
    kind = KerasImageDropout if len(shape) == 3 else KerasSequenceDropout
    return kind(layer.drop_rate, **options)


LAYERS: dict[type[layers.Layer], Callable[..., Any]] = {
    layers.Conv1D: partial(_convolution, keras.layers.Conv1D),
    layers.Conv2D: partial(_convolution, keras.layers.Conv2D),
    layers.AveragePool: lambda layer, shape, **options: keras.layers.AveragePooling2D(
        layer.pool_size, layer.steps, data_format=NHWC, **options
    ),
    layers.MaxPool: lambda layer, shape, **options: keras.layers.MaxPooling2D(
        layer.pool_size, layer.steps, data_format=NHWC, **options
    ),
    layers.BatchNorm: lambda layer, shape, **options: keras.layers.BatchNormalization(
        momentum=layer.moving_decay, epsilon=layer.epsilon, **options
    ),
    layers.Dropout: lambda layer, shape, **options: KeptDropout(layer.drop_rate, **options),
    layers.SpatialDropout: _spatial_dropout,
    layers.Flatten: lambda layer, shape, **options: keras.layers.Flatten(NHWC, **options),
    layers.Dense: lambda layer, shape, **options: keras.layers.Dense(
        layer.units, use_bias=layer.use_bias, **options
    ),
    layers.Activation: _activation,
    layers.Add: lambda layer, shape, **options: keras.layers.Add(**options),
    layers.GlobalAveragePool: lambda layer, shape, **options: KerasGlobalAveragePool(**options),
    layers.LayerNorm: lambda layer, shape, **options: keras.layers.LayerNormalization(
        epsilon=layer.epsilon, **options
    ),
    layers.RMSNorm: lambda layer, shape, **options: KerasRMSNorm(epsilon=layer.epsilon, **options),
    layers.GroupNorm: lambda layer, shape, **options: keras.layers.GroupNormalization(
        layer.groups, epsilon=layer.epsilon, **options
    ),
    layers.MultiHeadAttention: _attention,
    layers.PositionEmbedding: lambda layer, shape, **options: KerasPositionEmbedding(
        layer.positions, **options
    ),
    layers.Embedding: lambda layer, shape, **options: keras.layers.Embedding(
        layer.vocabulary, layer.units, **options
    ),
    layers.Concat: lambda layer, shape, **options: keras.layers.Concatenate(-1, **options),
}

SCALED: dict[type[initializers.Initializer], Any] = {
    initializers.GlorotUniform: keras.initializers.GlorotUniform,
    initializers.GlorotNormal: keras.initializers.GlorotNormal,
    initializers.HeUniform: keras.initializers.HeUniform,
    initializers.HeNormal: keras.initializers.HeNormal,
}

FAMILIES: dict[str, Callable[[Distribution, int], Any]] = {
    "constant": lambda distribution, seed: keras.initializers.Constant(distribution.value),
    "uniform": lambda distribution, seed: keras.initializers.RandomUniform(
        distribution.low, distribution.high, seed=seed
    ),
    "normal": lambda distribution, seed: keras.initializers.RandomNormal(
        0.0, distribution.stddev, seed=seed
    ),
    "truncated_normal": lambda distribution, seed: keras.initializers.TruncatedNormal(
        0.0, distribution.stddev, seed=seed
    ),
}


def derive_seed(seed: int, *stream: int) -> int:
    """Derive a seed of 31 bits, as keras takes them, for one use of a seed."""
    return int(np.random.SeedSequence((seed, *stream)).generate_state(1)[0] >> 1)


def initializer(tensor: Tensor, seed: int) -> Any:
    """Create Keras's initialiser of a tensor. Keras derives the fans of a vector from its length,
    but a bias has the fans of the kernel of its layer, so what is no kernel is drawn from the
    distribution."""
    native = SCALED.get(type(tensor.initializer)) if tensor.name.endswith(".kernel") else None
    if native is not None:
        return native(seed=seed)
    distribution = tensor.initializer.distribution(tensor.fans)
    return FAMILIES[distribution.family](distribution, seed)


def _starts(model: Model, place: int, seed: int, weights: Weights | None) -> dict[str, Any]:
    """Create the initialisers of a layer, by the names of Keras's arguments."""

    def initializer_of(number: int, tensor: Tensor) -> Any:
        if weights is None:
            return initializer(tensor, derive_seed(seed, place, number))
        values = weights[tensor.name]  # Keras gives some tensors another shape.
        return lambda shape, dtype, **options: np.asarray(values).astype(dtype).reshape(shape)

    return {
        f"{tensor.name.split('.')[1]}_initializer": initializer_of(number, tensor)
        for number, tensor in enumerate(model.tensors_of(place))
    }


class KerasNetwork:
    """A functional keras.Model, and its tensors by the names that the model gives them."""

    def __init__(self, model: Model, dtype: str, seed: int, weights: Weights | None = None) -> None:
        self.model = model
        self.layers = []
        self.tensors: dict[str, Any] = {}
        inputs = tuple(
            keras.Input(each.shape, dtype="int32" if each.dtype == "int" else dtype)
            for each in model.input_table
        )
        values = [*inputs]
        for row in model.table:
            starts = _starts(model, row.place, seed, weights)
            # Keras does not accept every name that a node may have.
            name = f"{row.layer.kind}_{row.place}"
            layer = LAYERS[type(row.layer)](row.layer, row.shape, name=name, dtype=dtype, **starts)
            taken = [values[source] for source in row.sources]
            values.append(layer(taken if row.layer.merges else taken[0]))
            self.layers.append(layer)
            for tensor in model.tensors_of(row.place):
                part = tensor.name.split(".")[1]
                if isinstance(layer, KerasAttention):
                    self.tensors[tensor.name] = variable = layer.tensors[part]
                    variable.assign(starts[f"{part}_initializer"](variable.shape, dtype))
                else:
                    self.tensors[tensor.name] = getattr(layer, part)
        self.inputs, self.outputs = inputs, values[len(inputs) :]
        self.network = PartedModel(inputs, values[-1])
        # Keras sorts the layers of a branching network in an order of its own.
        names = {id(variable): name for name, variable in self.tensors.items()}
        self.trained = [names[id(each)] for each in self.network.trainable_variables]
        self.dropouts: dict[int, KeptDropout] = {
            row.place: layer.dropout_layer if isinstance(layer, KerasAttention) else layer
            for row, layer in zip(model.table, self.layers, strict=True)
            if row.mask is not None
        }

    @cached_property
    def every_layer(self) -> keras.Model:
        """The same layers as a model whose outputs are those of every layer."""
        return keras.Model(self.inputs, self.outputs)

    @cached_property
    def predictor(self) -> Callable[..., Any]:
        """The function (trained, held, x) -> outputs outside training, for little work."""

        def outputs_of(trained: TensorList, held: TensorList, x: Any) -> Any:
            return self.network.stateless_call(trained, held, x, training=False)[0]

        return BACKENDS[keras.config.backend()].compile_once(outputs_of)

    @property
    def compiles_layers(self) -> bool:
        """True if Keras compiles a layer anew in every pass that is not compiled itself, as it does
        convolutions in groups on TensorFlow."""
        return keras.config.backend() == "tensorflow" and any(
            isinstance(layer, layers.Convolution) and layer.groups > 1
            for layer in self.model.layers
        )

    def state_of(self, network: keras.Model) -> tuple[TensorList, TensorList]:
        """Return the values of the tensors of a model that are trained, and of the others."""
        return (
            self.to_tensors(network.trainable_variables),
            self.to_tensors(network.non_trainable_variables),
        )

    @staticmethod
    def to_tensors(each: Iterable[Any]) -> TensorList:
        """Return arrays, tensors and the values of variables as tensors."""
        # TensorFlow takes a variable for a tensor; on JAX, each shape of a copy is a program.
        found = map(keras.ops.convert_to_tensor, each)
        return [keras.ops.copy(v) if isinstance(v, keras.Variable) else v for v in found]

    def to_array(self, tensor: Any) -> NDArray[Any]:
        """Copy a tensor or a variable to an array. numpy 2 warns if it reads a variable."""
        return np.array(keras.ops.convert_to_numpy(*self.to_tensors([tensor])))

    def seed(self, seed: int) -> None:
        """Seed the dropout layers."""
        for index, layer in self.dropouts.items():
            if layer.rate > 0:
                layer.seed_generator.state.assign([derive_seed(seed, index), 0])

    def set_masks(self, masks: KeptMasks | None) -> None:
        """Set what each dropout layer keeps, or let it draw."""
        for index, layer in self.dropouts.items():
            layer.kept = None if masks is None else masks[index]

    def select_samples(self, here: slice) -> None:
        """Choose the samples of a batch whose masks dropout uses."""
        for layer in self.dropouts.values():
            layer.here = here

    @contextlib.contextmanager
    def in_parts(self, parts: int | None, batch_sizes: Collection[int]) -> Iterator[None]:
        """Compute each batch of a training in parts inside, if their number is given. The batches
        have these sizes."""
        self.network.parts, self.network.select = parts, self.select_samples
        if parts is not None:
            self.network.certain = min(-(-size // -(-size // parts)) for size in batch_sizes)
        try:
            yield
        finally:
            self.network.parts = None

    @contextlib.contextmanager
    def with_masks(self, masks: KeptMasks | None) -> Iterator[None]:
        """Set the masks for one pass."""
        self.set_masks(masks)
        try:
            yield
        finally:
            self.set_masks(None)
