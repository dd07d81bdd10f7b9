"""The layers that combine several inputs: addition and concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dlsys_bench.spec.layers.base import InvalidInput, Layer, Shape
from dlsys_bench.spec.record import require


@dataclass(frozen=True)
class Merge(Layer):
    """The base of the layers that take two inputs or more, in a branching model."""

    invalid_inputs: ClassVar[tuple[InvalidInput, ...]] = (({}, (3,), "takes two inputs or more"),)

    @property
    def merges(self) -> bool:
        return True

    def output_shape(self, shape: Shape) -> Shape:
        return self.combined_shape([shape])

    def combined_shape(self, shapes: Sequence[Shape]) -> Shape:
        require(
            len(shapes) > 1,
            f"{self.kind} takes two inputs or more: put it into a branching model, "
            "with parallel(...) or residual(...)",
        )
        return self.merged_shape(shapes)

    def merged_shape(self, shapes: Sequence[Shape]) -> Shape:
        """Return the output shape for the shapes of two inputs or more."""
        raise NotImplementedError


@dataclass(frozen=True)
class Add(Merge):
    """The sum of inputs of one shape."""

    kind: ClassVar[str] = "add"

    def merged_shape(self, shapes: Sequence[Shape]) -> Shape:
        require(
            len(set(shapes)) == 1,
            f"{self.kind} takes inputs of one shape, but they are {_listed(shapes)}",
        )
        return shapes[0]


@dataclass(frozen=True)
class Concat(Merge):
    """The inputs one after another along the channels, the last axis."""

    kind: ClassVar[str] = "concat"

    def merged_shape(self, shapes: Sequence[Shape]) -> Shape:
        require(
            len({shape[:-1] for shape in shapes}) == 1,
            f"{self.kind} takes inputs that differ in the channels alone, "
            f"but they are {_listed(shapes)}",
        )
        return *shapes[0][:-1], sum(shape[-1] for shape in shapes)


def _listed(shapes: Sequence[Shape]) -> str:
    return f"{', '.join(map(str, shapes[:-1]))} and {shapes[-1]}"
