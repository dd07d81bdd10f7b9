"""Multi-head self-attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dlsys_bench.spec.initializers import INITIALIZERS, Fans, GlorotUniform, Initializer, Zeros
from dlsys_bench.spec.layers.base import InvalidInput, Layer, Mask, Shape
from dlsys_bench.spec.layers.windows import require_sequence
from dlsys_bench.spec.record import (
    Choices,
    Invalid,
    require,
    require_count,
    require_kind,
    require_number,
)

PROJECTIONS = ("query", "key", "value", "output")


@dataclass(frozen=True)
class MultiHeadAttention(Layer):
    """Self-attention of several heads. x (N, T, C) -> the same shape. Vaswani et al. 2017.

    Each head has a query, a key and a value of `key_size` values for each position (default:
    C / heads), which are products of x with kernels (C, heads * key_size), the values of a head in
    consecutive columns. The weights of a position are the softmax of its query times all keys,
    divided by the root of the key size; if `causal`, of the keys of no later position. The output
    kernel (heads * key_size, C) combines the weighted values of all heads.

    In training, each weight is set to zero with probability `drop_rate`, and the others are divided
    by 1 - drop_rate: after the softmax, and for each head, query and key independently.

    Keras and torch compute the same function. Keras has kernels (C, heads, key_size) and
    (heads, key_size, C); torch packs query, key and value in one kernel (3 C, C), and its key size
    is C / heads. Their initial values differ: Keras takes fans from the three axes of its kernels,
    and torch those of the packed kernel. Here, fans are those of each matrix.
    """

    heads: int
    key_size: int | None = None
    causal: bool = False
    drop_rate: float = 0.0
    use_bias: bool = True
    kernel_initializer: Initializer = GlorotUniform()
    bias_initializer: Initializer = Zeros()

    kind: ClassVar[str] = "multi_head_attention"
    choices: ClassVar[Choices] = {
        "heads": (2, 1, 3),
        "key_size": (None, 2, 1, 3),
        "drop_rate": (0.0, 0.4),
        "use_bias": (True, False),
    }
    variants: ClassVar[Mapping[str, Choices]] = {
        "multi_head_attention": choices,
        "causal_attention": {**choices, "causal": (True,)},
    }
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"heads": 0}, "heads is 0"),
        ({"heads": 2, "key_size": 0}, "key_size is 0"),
        ({"heads": 2, "causal": "yes"}, "causal is 'yes'"),
        ({"heads": 2, "drop_rate": 1.0}, "drop_rate is 1.0"),
        ({"heads": 2, "kernel_initializer": "he_uniform"}, "a record, such as HeUniform()"),
        ({}, "heads"),
    )
    invalid_inputs: ClassVar[tuple[InvalidInput, ...]] = (
        ({"heads": 4}, (3, 6), "4 heads do not divide 6 channels"),
        ({"heads": 2}, (16,), "takes a sequence"),
        ({"heads": 2}, (4, 4, 2), "takes a sequence"),
    )

    def __post_init__(self) -> None:
        require_count(self.kind, "heads", self.heads)
        if self.key_size is not None:
            require_count(self.kind, "key_size", self.key_size)
        require(
            isinstance(self.causal, bool),
            f"{self.kind}: causal is {self.causal!r}; it takes True or False",
        )
        require_number(self.kind, "drop_rate", self.drop_rate, 0.0, 1.0, open_high=True)
        for name in ("kernel_initializer", "bias_initializer"):
            require_kind(self.kind, name, getattr(self, name), Initializer, INITIALIZERS)

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.kind, "causal_attention") if self.causal else (self.kind,)

    def output_shape(self, shape: Shape) -> Shape:
        channels = require_sequence(self.kind, shape)[1]
        require(
            self.key_size is not None or channels % self.heads == 0,
            f"{self.kind}: {self.heads} heads do not divide {channels} channels: "
            "choose another number, or a key_size",
        )
        return shape

    def size(self, shape: Shape) -> int:
        """Return the key size for an input shape."""
        return shape[-1] // self.heads if self.key_size is None else self.key_size

    def parameters(self, shape: Shape) -> dict[str, Shape]:
        channels, inner = shape[-1], self.heads * self.size(shape)
        found: dict[str, Shape] = {}
        for name in PROJECTIONS:
            kernel = (inner, channels) if name == "output" else (channels, inner)
            found[f"{name}_kernel"] = kernel
            if self.use_bias:
                found[f"{name}_bias"] = kernel[1:]
        return found

    def initializers(self) -> dict[str, Initializer]:
        kernels = {f"{name}_kernel": self.kernel_initializer for name in PROJECTIONS}
        return kernels | {f"{name}_bias": self.bias_initializer for name in PROJECTIONS}

    def fans(self, shape: Shape) -> Fans:
        return Fans(shape[-1], self.heads * self.size(shape))

    def fans_of(self, tensor: str, shape: Shape) -> Fans:
        fans = self.fans(shape)
        is_output = tensor in ("output_kernel", "output_bias")
        return Fans(fans.fan_out, fans.fan_in) if is_output else fans

    def mask(self, shape: Shape) -> Mask | None:
        # For each head, the queries and their keys.
        heads = Mask((self.heads, shape[0], shape[0]), self.drop_rate)
        return heads if self.drop_rate else None

    def title(self) -> str:
        heads = f"{self.heads} head{'s' if self.heads > 1 else ''}"
        return f"{heads}{', causal' if self.causal else ''}"
