"""The embedding of token ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlsys_bench.spec.initializers import Fans, Initializer, Uniform
from dlsys_bench.spec.layers.base import InvalidInput, Layer, Shape, ValueKind, require_initializers
from dlsys_bench.spec.record import Choices, Invalid, require, require_count


@dataclass(frozen=True)
class Embedding(Layer):
    """A vector for each token id. x (N, T) of ints below `vocabulary` -> (N, T, units).

    It is the first layer of a model whose `input_dtype` is "int".
    """

    vocabulary: int
    units: int
    embeddings_initializer: Initializer = Uniform()

    kind: ClassVar[str] = "embedding"
    takes: ClassVar[ValueKind] = "int"
    choices: ClassVar[Choices] = {"vocabulary": (5, 2, 11), "units": (3, 1, 4)}
    invalid: ClassVar[tuple[Invalid, ...]] = (
        ({"vocabulary": 0, "units": 2}, "vocabulary is 0"),
        ({"vocabulary": 4, "units": 1.5}, "units is 1.5"),
        ({"vocabulary": 4}, "units"),
    )
    invalid_inputs: ClassVar[tuple[InvalidInput, ...]] = (
        ({"vocabulary": 4, "units": 2}, (4, 4, 1), "takes token ids of shape (positions,)"),
    )

    def __post_init__(self) -> None:
        require_count(self.kind, "vocabulary", self.vocabulary)
        require_count(self.kind, "units", self.units)
        require_initializers(self)

    def output_shape(self, shape: Shape) -> Shape:
        require(
            len(shape) == 1,
            f"{self.kind} takes token ids of shape (positions,), but its input is {shape}",
        )
        return (*shape, self.units)

    def parameters(self, shape: Shape) -> dict[str, Shape]:
        return {"embeddings": (self.vocabulary, self.units)}

    def initializers(self) -> dict[str, Initializer]:
        return {"embeddings": self.embeddings_initializer}

    def fans(self, shape: Shape) -> Fans:
        return Fans(self.vocabulary, self.units)

    def title(self) -> str:
        return f"{self.vocabulary} tokens, {self.units}"
