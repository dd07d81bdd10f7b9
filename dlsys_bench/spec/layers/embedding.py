"""The embeddings of token ids and of positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dlsys_bench.spec.initializers import Fans, Initializer, Uniform
from dlsys_bench.spec.layers.base import InvalidInput, Layer, Shape, ValueKind, require_initializers
from dlsys_bench.spec.layers.windows import require_sequence
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

    def parameters(self, shape: Shape, *others: Shape) -> dict[str, Shape]:
        return {"embeddings": (self.vocabulary, self.units)}

    def initializers(self) -> dict[str, Initializer]:
        return {"embeddings": self.embeddings_initializer}

    def fans(self, shape: Shape) -> Fans:
        return Fans(self.vocabulary, self.units)

    def title(self) -> str:
        return f"{self.vocabulary} tokens, {self.units}"


@dataclass(frozen=True)
class PositionEmbedding(Layer):
    """A learned vector for each position, which is added there. x (N, T, C) -> the same shape.

    `positions` is the largest T. Of a shorter sequence, the vectors of the first T positions are
    added.
    """

    positions: int
    embeddings_initializer: Initializer = Uniform()

    kind: ClassVar[str] = "position_embedding"
    choices: ClassVar[Choices] = {"positions": (6, 4, 3)}
    invalid: ClassVar[tuple[Invalid, ...]] = (({"positions": 0}, "positions is 0"),)
    invalid_inputs: ClassVar[tuple[InvalidInput, ...]] = (
        ({"positions": 4}, (5, 2), "has 4 positions, but its input has 5"),
        ({"positions": 4}, (3,), "takes a sequence"),
    )

    def __post_init__(self) -> None:
        require_count(self.kind, "positions", self.positions)
        require_initializers(self)

    def output_shape(self, shape: Shape) -> Shape:
        found = require_sequence(self.kind, shape)[0]
        require(
            found <= self.positions,
            f"{self.kind} has {self.positions} positions, but its input has {found}",
        )
        return shape

    def parameters(self, shape: Shape, *others: Shape) -> dict[str, Shape]:
        return {"embeddings": (self.positions, shape[-1])}

    def initializers(self) -> dict[str, Initializer]:
        return {"embeddings": self.embeddings_initializer}

    def fans(self, shape: Shape) -> Fans:
        return Fans(self.positions, shape[-1])

    def title(self) -> str:
        return f"{self.positions} positions"
