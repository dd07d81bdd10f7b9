"""Multi-head attention, of a sequence to itself or to a context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    require_switches,
)

PROJECTIONS = ("query", "key", "value", "output")


@dataclass(frozen=True)
class MultiHeadAttention(Layer):
    """Attention of several heads. x (N, T, C) -> the same shape. Vaswani et al. 2017.

    A sequence attends to itself or, with a `context`, to a second input (N, S, D) of any length and
    width, which is then written after it in the inputs of the node (cross-attention).

    Each head has a query of `key_size` values for each position of x (default: C / heads), and a
    key and a value of as many for each position of the context, which is x itself unless there is
    another. They are products of x with a kernel (C, heads * key_size) and of the context with two
    kernels (D, heads * key_size), the values of a head in consecutive columns. The weights of a
    position are the softmax of its query times all keys, divided by the root of the key size; if
    `causal`, of the keys of no later position, which takes a context of as many positions as x. The
    output kernel (heads * key_size, C) combines the weighted values of all heads.

    In training, each weight is set to zero with probability `drop_rate`, and the others are divided
    by 1 - drop_rate: after the softmax, and for each head, query and key independently.

    Keras and torch compute the same function. Keras has kernels (C, heads, key_size) and
    (heads, key_size, C); torch packs query, key and value in one kernel (3 C, C) unless C and D
    differ, and its key size is C / heads. Their initial values differ: Keras takes fans from the
    three axes of its kernels, and torch those of the packed kernel. Here, fans are those of each
    matrix.
    """

    heads: int
    key_size: int | None = None
    causal: bool = False
    drop_rate: float = 0.0
    use_bias: bool = True
    kernel_initializer: Initializer = GlorotUniform()
    bias_initializer: Initializer = Zeros()
    context: bool = field(default=False, metadata={"omit_when": False})

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
        "cross_attention": {**choices, "key_size": (None, 3), "context": (True,)},
        "causal_cross_attention": {
            **choices,
            "key_size": (None, 3),
            "causal": (True,),
            "context": (True,),
        },
    }
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"heads": 0}, "heads is 0"),
        ({"heads": 2, "key_size": 0}, "key_size is 0"),
        ({"heads": 2, "causal": "yes"}, "causal is 'yes'"),
        ({"heads": 2, "context": "encoder"}, "context is 'encoder'; expected True or False"),
        ({"heads": 2, "drop_rate": 1.0}, "drop_rate is 1.0"),
        ({"heads": 2, "kernel_initializer": "he_uniform"}, "a record, such as HeUniform()"),
        ({}, "heads"),
    )
    invalid_inputs: ClassVar[tuple[InvalidInput, ...]] = (
        ({"heads": 4}, (3, 6), "4 heads do not divide 6 channels"),
        ({"heads": 2}, (16,), "takes a sequence"),
        ({"heads": 2}, (4, 4, 2), "takes a sequence"),
        ({"heads": 2, "context": True}, (4, 2), "takes two inputs, not 1"),
    )

    def __post_init__(self) -> None:
        require_count(self.kind, "heads", self.heads)
        if self.key_size is not None:
            require_count(self.kind, "key_size", self.key_size)
        require_switches(self, "causal", "use_bias", "context")
        require_number(self.kind, "drop_rate", self.drop_rate, 0.0, 1.0, open_high=True)
        for name in ("kernel_initializer", "bias_initializer"):
            require_kind(self.kind, name, getattr(self, name), Initializer, INITIALIZERS)

    @property
    def needs(self) -> tuple[str, ...]:
        used = {
            "causal_attention": self.causal,
            "cross_attention": self.context,
            "causal_cross_attention": self.causal and self.context,
        }
        return (self.kind, *(name for name, value in used.items() if value))

    @property
    def merges(self) -> bool:
        return self.context

    def output_shape(self, shape: Shape) -> Shape:
        return self.combined_shape([shape])

    def combined_shape(self, shapes: Sequence[Shape]) -> Shape:
        given = f"{self.kind} with context={self.context}"
        require(
            len(shapes) == 1 or self.context,
            f"{given} takes one input, not {len(shapes)}: "
            "with context=True, keys and values are those of a second input",
        )
        require(
            len(shapes) == 2 or not self.context,
            f"{given} takes two inputs, not {len(shapes)}: that of the queries and the context, as "
            "in parallel(serial(), serial(source=...), join=...)",
        )
        positions, channels = require_sequence(self.kind, shapes[0])
        require(
            self.key_size is not None or channels % self.heads == 0,
            f"{self.kind}: {self.heads} heads do not divide {channels} channels: "
            "choose another number, or a key_size",
        )
        for context in shapes[1:]:
            length = require_sequence(f"{self.kind}: the context", context)[0]
            require(
                length == positions or not self.causal,
                f"{self.kind}: causal attention takes a context of as many positions as the "
                f"queries, {positions}, but it has {length}",
            )
        return shapes[0]

    def size(self, shape: Shape) -> int:
        """Return the key size for the shape of the input of the queries."""
        return shape[-1] // self.heads if self.key_size is None else self.key_size

    def parameters(self, shape: Shape, *others: Shape) -> dict[str, Shape]:
        channels, inner = shape[-1], self.heads * self.size(shape)
        context = (shape, *others)[-1][-1]
        widths = {"query": channels, "key": context, "value": context, "output": inner}
        found: dict[str, Shape] = {}
        for name in PROJECTIONS:
            units = channels if name == "output" else inner
            found[f"{name}_kernel"] = (widths[name], units)
            if self.use_bias:
                found[f"{name}_bias"] = (units,)
        return found

    def initializers(self) -> dict[str, Initializer]:
        kernels = {f"{name}_kernel": self.kernel_initializer for name in PROJECTIONS}
        return kernels | {f"{name}_bias": self.bias_initializer for name in PROJECTIONS}

    def fans_of(self, tensor: str, shape: Shape, *others: Shape) -> Fans:
        projection = tensor.rpartition("_")[0]
        return Fans(*self.parameters(shape, *others)[f"{projection}_kernel"])

    def mask(self, shape: Shape, *others: Shape) -> Mask | None:
        # For each head, the queries and their keys.
        heads = Mask((self.heads, shape[0], (shape, *others)[-1][0]), self.drop_rate)
        return heads if self.drop_rate else None

    def title(self) -> str:
        heads = f"{self.heads} head{'s' if self.heads > 1 else ''}"
        return f"{heads}{', causal' if self.causal else ''}{', context' if self.context else ''}"
