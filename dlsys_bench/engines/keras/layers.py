# mypy: disallow-subclassing-any=False
"""Layers of Keras that take what a model says: masks of dropout, a context, other names. This
module imports keras, so it is imported only after an engine has started its backend."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from dlsys_bench.spec import layers
from dlsys_bench.spec.layers.attention import PROJECTIONS


class KeptDropout(keras.layers.Dropout):
    """A dropout of Keras, or with a mask, dropout of what the mask says of the samples `here`."""

    kept: NDArray[np.bool_] | None = None
    here: slice = slice(None)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drop out by the mask, or by Keras's own draw."""
        if self.kept is None or not training:
            return super().call(inputs, training=training)
        return inputs * keras.ops.cast(self.kept[self.here], inputs.dtype) / (1.0 - self.rate)


class KerasSequenceDropout(KeptDropout, keras.layers.SpatialDropout1D):
    """Dropout of whole channels of sequences."""


class KerasImageDropout(KeptDropout, keras.layers.SpatialDropout2D):
    """Dropout of whole channels of images."""


class KerasProjection(keras.layers.EinsumDense):
    """A projection of attention, to which the biases are added along the right axis.

    With one value per head and as many positions as heads, Keras on TensorFlow takes the heads of
    the biases for the positions (Keras 3.15): `keras.ops.add` of values of shape (1, 3, 3, 1) and
    biases of shape (3, 1) adds along the second axis instead of the third.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Compute the products, and add the biases."""
        values = keras.ops.einsum(self.equation, inputs, self.kernel)
        return values if self.bias is None else values + keras.ops.convert_to_tensor(self.bias)


class KerasAttention(keras.layers.MultiHeadAttention):
    """Keras's multi-head attention, of x to itself or of the first of two inputs to the second,
    whose dropout can take a mask."""

    def __init__(self, layer: layers.MultiHeadAttention, shape: layers.Shape, **options: Any):
        sizes = layer.heads, layer.size(shape)
        super().__init__(*sizes, dropout=layer.drop_rate, use_bias=layer.use_bias, **options)
        self.causal, self.crosses = layer.causal, layer.context

    def build(self, shape: Any) -> None:
        """Create the variables, and a dropout that can take a mask."""
        super().build(*self._pair(shape))
        # Keras creates these layers in `build`. The biases of the fourth have a single axis.
        for dense in (self.query_dense, self.key_dense, self.value_dense):
            dense.__class__ = KerasProjection
        self._dropout_layer = KeptDropout(self.dropout, dtype=self.dtype_policy)

    @property
    def dropout_layer(self) -> KeptDropout:
        """The dropout of the weights."""
        return self._dropout_layer

    def compute_output_spec(self, inputs: Any, **options: Any) -> Any:
        """Return the shape and the dtype of x."""
        return keras.KerasTensor(self._pair(inputs)[0].shape, self.compute_dtype)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Compute the attention."""
        options = {"training": training, "use_causal_mask": self.causal}
        return super().call(*self._pair(inputs), **options)

    def _pair(self, given: Any) -> Any:
        """Return what belongs to the queries, and what to their context."""
        return given if self.crosses else (given, given)

    @property
    def tensors(self) -> dict[str, Any]:
        """The variables by the model's names."""
        dense = (self.query_dense, self.key_dense, self.value_dense, self.output_dense)
        parts = dict(zip(PROJECTIONS, dense, strict=True))
        kernels = {f"{name}_kernel": part.kernel for name, part in parts.items()}
        return kernels | {f"{name}_bias": part.bias for name, part in parts.items()}


class KerasPositionEmbedding(keras.layers.Layer):
    """The vectors of the first positions, added."""

    def __init__(self, positions: int, *, embeddings_initializer: Any, **options: Any) -> None:
        super().__init__(**options)
        self.positions, self.start = positions, embeddings_initializer

    def build(self, shape: Any) -> None:
        """Create the variable."""
        self.embeddings = self.add_weight((self.positions, shape[-1]), self.start)

    def call(self, inputs: Any) -> Any:
        """Add the vectors."""
        return inputs + self.embeddings[: inputs.shape[1]]


class KerasRMSNorm(keras.layers.RMSNormalization):
    """Keras's RMS norm, with the names of the other norms. Keras would start its scale at one."""

    def __init__(self, *, gamma_initializer: Any, **options: Any) -> None:
        super().__init__(**options)
        self.start = gamma_initializer

    def build(self, shape: Any) -> None:
        """Create the scale, and start it."""
        super().build(shape)
        self.scale.assign(self.start(self.scale.shape, self.scale.dtype))

    @property
    def gamma(self) -> Any:
        """The scale."""
        return self.scale


class KerasGlobalAveragePool(keras.layers.Layer):
    """The mean over all positions, of images and of sequences."""

    def call(self, inputs: Any) -> Any:
        """Compute the mean."""
        return keras.ops.mean(inputs, axis=tuple(range(1, len(inputs.shape) - 1)))
